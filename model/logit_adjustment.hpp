// LogitAdjustment: what a request does to its logits before sampling: biases, penalties, a mask. One order, everywhere.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/token_mask.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

struct TokenBias {
  std::uint32_t token = 0;
  float value = 0;
  bool operator==(const TokenBias&) const = default;
};

// For one row. Each list names a token once; whoever makes them sorts them, so that equal requests send equal bytes.
struct LogitAdjustment {
  std::vector<TokenBias> biases;    // logit_bias: added to the logit
  float repetition_penalty = 1.0F;  // of the tokens in `repeated`: a positive logit is divided by it, others multiplied
  std::vector<std::uint32_t> repeated;  // tokens of the prompt and of what was generated
  std::vector<TokenBias> penalties;     // frequency_penalty * count + presence_penalty: subtracted from the logit
  TokenMaskPtr mask;                    // null: every token is allowed; else the logits of all others become -infinity

  bool is_empty() const { return biases.empty() && repeated.empty() && penalties.empty() && mask == nullptr; }
};

// kInvalid where a list names a token that the vocabulary lacks, or a number would make a logit infinite.
runtime::Status check(const LogitAdjustment& adjustment, std::size_t vocabulary);

// In the order of the fields, which is vLLM's: bias, repetition, then frequency and presence; the mask last, which
// nothing can lift. Checked before.
void adjust(std::span<float> logits, const LogitAdjustment& adjustment);

}  // namespace consort::model
