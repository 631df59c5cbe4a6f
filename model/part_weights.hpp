// PartWeights and the FFN arithmetic behind compute_part, the shared expert and the dense layers.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/weight.hpp"
#include "model/expert_part.hpp"
#include "model/weight_loader.hpp"

namespace consort::model {

class PartWeights {
 public:
  explicit PartWeights(FfnWeights weights) : ffn(std::move(weights)) {}
  const FfnWeights ffn;
};

// out = down(silu(gate x) * up x).  x, out [n, hidden] F32; may not be the same memory.
void ffn(const FfnWeights& weights, runtime::ConstTensorView x, runtime::TensorView out, runtime::Workers& workers);

}  // namespace consort::model
