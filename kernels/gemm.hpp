// gemm: out = x * weight^T in the canonical numeric class.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/weight.hpp"
#include "runtime/tensor_view.hpp"
#include "runtime/workers.hpp"

namespace consort::kernels {

// out[t, o] = dot(x[t, :], weight[o, :]).
//   out [tokens, out_features] F32, overwritten, rows may be strided; x [tokens, in_features] F32, rows may be strided.
// Every dot product is canonical: lane j of 16 starts at +0 and takes fma(x[16i + j], w[16i + j]) for i ascending; a
// tail shorter than 16 is padded with +0 in x and w; lanes are summed by the tree 8-4-2-1 (lane j += lane j+8, then +4,
// +2, +1). So an element's bits do not depend on the rows beside it, the threads, or the instruction set.
void gemm(runtime::TensorView out, runtime::ConstTensorView x, const WeightMatrix& weight, runtime::Workers& workers);

}  // namespace consort::kernels
