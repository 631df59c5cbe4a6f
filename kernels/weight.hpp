// WeightMatrix: a weight as the checkpoint stores it, or a rectangle cut out of one. Kernels expand it in registers.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/tensor_view.hpp"

namespace consort::kernels {

inline constexpr std::int64_t kScaleBlock = 128;  // DeepSeek-V3 section 3.3.2: one scale per 128x128 weights

// [rows, cols] of F32, F16, BF16 or F8_E4M3 in somebody else's memory. FP8 value = F32(e4m3) * scale_inv, rounded to
// F32, with the scale at [(row_origin + r) / 128, (col_origin + c) / 128], so that a cut inside a block keeps its
// scale. E4M3 has no infinity; 0x7F and 0xFF are NaN.
struct WeightMatrix {
  const std::byte* data = nullptr;
  runtime::Dtype dtype = runtime::Dtype::kF32;
  std::int64_t rows = 0;             // out_features
  std::int64_t cols = 0;             // in_features
  std::int64_t row_stride = 0;       // elements from one row to the next
  const float* scale_inv = nullptr;  // FP8 only
  std::int64_t scale_stride = 0;     // elements from one row of scales to the next
  std::int64_t row_origin = 0;       // position of row 0 in the whole weight
  std::int64_t col_origin = 0;       // position of column 0 in the whole weight
};

}  // namespace consort::kernels
