// Rope: rotary angles with YaRN (arXiv:2309.00071), and the softmax scale that goes with them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/config.hpp"

namespace consort::model {

// Frequencies are computed in double by the project's own functions and rounded once to F32. An angle is the
// F32 product position * frequency, as in the reference that the released models were trained with; its
// cosine and sine are taken in double and rounded once.
class Rope {
 public:
  explicit Rope(const ModelConfig& config);

  std::span<const float> inverse_frequencies() const { return inverse_frequencies_; }  // [qk_rope_head_dim / 2]
  // qk_head_dim^-1/2, times mscale^2 where YaRN gives mscale_all_dim. Applies to the whole logit, at every
  // length.
  float softmax_scale() const { return softmax_scale_; }
  // cos, sin [qk_rope_head_dim / 2], times YaRN's attention factor (1 in all released models).
  void angles(std::int64_t position, std::span<float> cos, std::span<float> sin) const;

 private:
  std::vector<float> inverse_frequencies_;
  double attention_factor_ = 1.0;
  float softmax_scale_ = 1.0F;
};

}  // namespace consort::model
