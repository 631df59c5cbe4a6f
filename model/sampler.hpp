// The next token from a row of logits: a pure function of the logits, the parameters, and (seed, position).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "model/logit_adjustment.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

// A row's logits go through, in this order: logit_bias, repetition, frequency and presence penalties, the mask
// (logit_adjustment.hpp), temperature, top_k, top_p, min_p; each sees what the one before has left.
struct SamplingParams {
  float temperature = 1.0F;  // 0 = greedy: the largest logit, whatever the other fields say
  std::int32_t top_k = 0;    // keep the k most probable; 0 = all
  float top_p = 1.0F;        // keep the fewest most probable tokens that reach this share of what is left; 1 = all
  float min_p = 0.0F;        // keep tokens at least this share as probable as the most probable; 0 = all
  std::uint64_t seed = 0;
  std::int32_t top_logprobs = 0;  // how many alternatives to report
};

inline constexpr float kMaxTemperature = 100.0F;     // logits differ by less than 100: beyond this all tokens are alike
inline constexpr std::int32_t kMaxTopLogprobs = 20;  // as in OpenAI's API; bounds the reply of a step

// kInvalid with the field's name and its range where a field is out of it.
runtime::Status check(const SamplingParams& params);

struct TokenLogprob {
  std::int32_t token = 0;
  float logprob = 0.0F;  // the model's own: ln softmax(logits)[token], before all that is done to logits
  bool operator==(const TokenLogprob&) const = default;
};

struct SampledToken {
  std::int32_t token = 0;
  float logprob = 0.0F;                    // as in TokenLogprob
  std::vector<TokenLogprob> alternatives;  // the top_logprobs most probable, most probable first
  bool operator==(const SampledToken&) const = default;
};

// One token for the position that the token will have in its sequence. logits [vocab] F32, not empty; params and
// adjustment checked. Log-probabilities are those of the unadjusted logits, as vLLM reports them by default.
// Ties go to the lower index everywhere. Every step is canonical arithmetic in a fixed order, so equal logits give
// equal bits on every machine. A row with NaN or +infinity, or without any finite value, is kInternal: something
// upstream broke; so is a mask that leaves no token.
runtime::Outcome<SampledToken> sample(std::span<const float> logits, const SamplingParams& params,
                                      std::uint64_t position, const LogitAdjustment& adjustment = {});

// The number in [0, 1) that decides the token at this position: the top 53 bits of
//   mix(mix(seed ^ 0xC0250127) + (position + 1) * 0x9E3779B97F4A7C15)
// where mix is SplitMix64's finaliser. A counter, not a state, so that any position can be drawn again or first.
double uniform_draw(std::uint64_t seed, std::uint64_t position);

}  // namespace consort::model
