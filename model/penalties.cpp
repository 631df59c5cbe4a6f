#include "model/penalties.hpp"

#include <algorithm>
#include <sstream>
#include <utility>

namespace consort::model {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Status;

namespace {

Status check_range(std::string_view field, float value, float low, float high) {
  if (value >= low && value <= high) return runtime::done();  // NaN is out of range
  std::ostringstream text;
  text << "sampling: " << field << " is " << value << "; it must be from " << low << " to " << high;
  return failure(ErrorKind::kInvalid, text.str());
}

}  // namespace

Status check(const PenaltyParams& params) {
  CONSORT_RETURN_IF_ERROR(check_range("frequency_penalty", params.frequency_penalty, -kMaxPenalty, kMaxPenalty));
  CONSORT_RETURN_IF_ERROR(check_range("presence_penalty", params.presence_penalty, -kMaxPenalty, kMaxPenalty));
  CONSORT_RETURN_IF_ERROR(
      check_range("repetition_penalty", params.repetition_penalty, kLeastRepetitionPenalty, kMaxRepetitionPenalty));
  if (params.logit_bias.size() > kMaxLogitBiases) {
    return failure(ErrorKind::kInvalid, "sampling: logit_bias names " + std::to_string(params.logit_bias.size()) +
                                            " tokens; at most " + std::to_string(kMaxLogitBiases) + " may be");
  }
  std::set<std::uint32_t> named;
  for (const TokenBias& bias : params.logit_bias) {
    CONSORT_RETURN_IF_ERROR(check_range("logit_bias", bias.value, -kMaxLogitBias, kMaxLogitBias));
    if (!named.insert(bias.token).second) {
      return failure(ErrorKind::kInvalid, "sampling: logit_bias names token " + std::to_string(bias.token) + " twice");
    }
  }
  return runtime::done();
}

Penalties::Penalties(PenaltyParams params, std::span<const std::uint32_t> prompt) : params_(std::move(params)) {
  std::ranges::sort(params_.logit_bias, {}, &TokenBias::token);
  if (params_.repetition_penalty != 1.0F) seen_.insert(prompt.begin(), prompt.end());
}

void Penalties::count(std::uint32_t generated) {
  if (params_.frequency_penalty != 0.0F || params_.presence_penalty != 0.0F) ++generated_[generated];
  if (params_.repetition_penalty != 1.0F) seen_.insert(generated);
}

LogitAdjustment Penalties::adjustment() const {
  LogitAdjustment out;
  out.biases = params_.logit_bias;
  out.repetition_penalty = params_.repetition_penalty;
  out.repeated.assign(seen_.begin(), seen_.end());
  out.penalties.reserve(generated_.size());
  for (const auto& [token, times] : generated_) {
    out.penalties.push_back({token, params_.frequency_penalty * static_cast<float>(times) + params_.presence_penalty});
  }
  return out;
}

}  // namespace consort::model
