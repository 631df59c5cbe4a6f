// What every panel of one gemm shares, and how large the pieces are.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/weight.hpp"

namespace consort::kernels::cpu {

inline constexpr std::int64_t kSixteen = 16;  // lanes of a canonical dot product

// A block of x (96 rows x 512 floats, 196 KB), its lane sums (96 x 24 x 64 bytes, 147 KB) and a panel of weights
// (24 x 512 floats, 49 KB) lie together in a second-level cache of 512 KB.
inline constexpr std::int64_t kBlockDepth = 512;
inline constexpr std::int64_t kBlockRows = 96;
inline constexpr std::int64_t kPanelCols = 24;  // a multiple of 3 and 4, the widths of the tiles

// Below this many multiply-adds (about 10 us) handing work to other threads costs more than it brings.
inline constexpr std::int64_t kInlineProducts = 1 << 19;

struct GemmJob {
  float* out = nullptr;
  std::int64_t out_stride = 0;
  const float* x = nullptr;
  std::int64_t x_stride = 0;
  std::int64_t rows = 0;
  const WeightMatrix* weight = nullptr;
  const float* x_tail = nullptr;  // [rows, 16]: the last cols % 16 columns of x, padded with +0; null where there are none
};

}  // namespace consort::kernels::cpu
