#include "model/logit_adjustment.hpp"

#include <cmath>
#include <limits>
#include <string>

namespace consort::model {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Status;

namespace {

// What the API allows stays far below; a peer's nonsense would make infinities.
constexpr float kMaxShift = 1e9F;
constexpr float kLeastFactor = 1e-3F;
constexpr float kMostFactor = 1e3F;

Status outside(std::uint32_t token, std::size_t vocabulary) {
  return failure(ErrorKind::kInvalid, "a bias or penalty names token " + std::to_string(token) +
                                          "; the vocabulary has " + std::to_string(vocabulary));
}

Status check_shifts(std::span<const TokenBias> shifts, std::size_t vocabulary) {
  for (const TokenBias& shift : shifts) {
    if (shift.token >= vocabulary) return outside(shift.token, vocabulary);
    if (!(std::abs(shift.value) <= kMaxShift)) {
      return failure(ErrorKind::kInvalid, "a bias of token " + std::to_string(shift.token) + " is out of range");
    }
  }
  return runtime::done();
}

}  // namespace

Status check(const LogitAdjustment& adjustment, std::size_t vocabulary) {
  CONSORT_RETURN_IF_ERROR(check_shifts(adjustment.biases, vocabulary));
  CONSORT_RETURN_IF_ERROR(check_shifts(adjustment.penalties, vocabulary));
  for (const std::uint32_t token : adjustment.repeated) {
    if (token >= vocabulary) return outside(token, vocabulary);
  }
  if (!(adjustment.repetition_penalty >= kLeastFactor && adjustment.repetition_penalty <= kMostFactor)) {
    return failure(ErrorKind::kInvalid, "the repetition penalty of a row is out of range");
  }
  return runtime::done();
}

void adjust(std::span<float> logits, const LogitAdjustment& adjustment) {
  for (const TokenBias& bias : adjustment.biases) logits[bias.token] += bias.value;
  for (const std::uint32_t token : adjustment.repeated) {
    float& logit = logits[token];
    logit = logit > 0.0F ? logit / adjustment.repetition_penalty : logit * adjustment.repetition_penalty;
  }
  for (const TokenBias& penalty : adjustment.penalties) logits[penalty.token] -= penalty.value;
  if (adjustment.mask == nullptr) return;
  for (std::size_t token = 0; token < logits.size(); ++token) {
    if (!adjustment.mask->allows(token)) logits[token] = -std::numeric_limits<float>::infinity();
  }
}

}  // namespace consort::model
