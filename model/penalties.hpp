// Penalties: counts a request's tokens and makes of them what its next row's logits suffer. SPDX-License-Identifier:
// Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "model/logit_adjustment.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

// As OpenAI and vLLM define them.
struct PenaltyParams {
  float frequency_penalty = 0;   // per time that a token was generated
  float presence_penalty = 0;    // once for a token that was generated
  float repetition_penalty = 1;  // for a token of the prompt or generated; 1: none
  std::vector<TokenBias> logit_bias;
  bool operator==(const PenaltyParams&) const = default;
};
inline constexpr float kMaxPenalty = 2.0F;               // frequency and presence: -2 to 2, as in OpenAI's API
inline constexpr float kLeastRepetitionPenalty = 0.01F;  // vLLM says above 0; a logit must stay finite
inline constexpr float kMaxRepetitionPenalty = 10.0F;    // beyond it a repeated token is as good as banned
inline constexpr float kMaxLogitBias = 100.0F;           // as in OpenAI's API
inline constexpr std::size_t kMaxLogitBiases = 1024;     // they travel with every step; vLLM takes as many

// kInvalid with the field's name and its range. Tokens are checked against the vocabulary where that is known.
runtime::Status check(const PenaltyParams& params);

class Penalties {
 public:
  Penalties(PenaltyParams params, std::span<const std::uint32_t> prompt);
  const PenaltyParams& params() const { return params_; }
  void count(std::uint32_t generated);  // a committed token
  // For the next row; without a mask.
  LogitAdjustment adjustment() const;

 private:
  PenaltyParams params_;
  std::map<std::uint32_t, std::uint32_t> generated_;  // token: how often. Empty where no penalty asks for it
  std::set<std::uint32_t> seen_;                      // in prompt or answer; the same
};

}  // namespace consort::model
