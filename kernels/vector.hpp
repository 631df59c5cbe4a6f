// Row-wise operations in the canonical numeric class: norms, activation, rotation, sums.
// SPDX-License-Identifier: Apache-2.0
// NaN flows through all of them (its payload is not canonical); infinities as IEEE and the formula say.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/weight.hpp"
#include "runtime/tensor_view.hpp"

namespace consort::kernels {

// The canonical dot product of two F32 vectors of equal length (see gemm.hpp).
float dot(std::span<const float> a, std::span<const float> b);

// out[t] = weight * (x[t] / sqrt(mean(x[t]^2) + eps)).  out, x [tokens, n] F32, may be the same memory; weight [n] F32.
//   r = 1 / sqrt(dot(x, x) / n + eps), then out = weight * (x * r), each operation rounded to F32 once.
void rms_norm(runtime::TensorView out, runtime::ConstTensorView x, std::span<const float> weight, float eps);

// out = silu(gate) * up, element by element; silu(a) = a / (1 + exp(-a)).  All [tokens, n] F32; out may be gate or up.
void silu_mul(runtime::TensorView out, runtime::ConstTensorView gate, runtime::ConstTensorView up);

// Rotates interleaved pairs in place: (x[2i], x[2i+1]) -> (x[2i] c_i - x[2i+1] s_i, x[2i+1] c_i + x[2i] s_i), the first
// product rounded, the second by fma.  x [d_rope] F32; cos, sin [d_rope / 2].
void rotate_pairs(std::span<float> x, std::span<const float> cos, std::span<const float> sin);

// out += x.  Both [tokens, n] F32.
void add(runtime::TensorView out, runtime::ConstTensorView x);

// out[i] = fma(weight, x[i], out[i]).
void add_scaled(std::span<float> out, float weight, std::span<const float> x);

// out[i] = F32 value of element i of row r of the weight (FP8 with its scale).  out [cols].
void expand_row(std::span<float> out, const WeightMatrix& weight, std::int64_t row);

// In place over [n]: softmax with maximum, canonical exp, 16-lane sum of exponentials, one division each. -inf weighs
// 0; a NaN, a +inf, or nothing but -inf makes all of it NaN.
void softmax(std::span<float> x);

// In place: 1 / (1 + exp(-x)).
void sigmoid(std::span<float> x);

}  // namespace consort::kernels
