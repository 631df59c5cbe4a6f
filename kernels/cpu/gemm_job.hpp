// What every panel of one gemm shares, and how large the pieces are.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/weight.hpp"

namespace consort::kernels::cpu {

// Columns of the product that one worker takes at a time: multiples of 3 and 4, the widths of the tiles.
inline constexpr std::int64_t kStreamPanelCols = 48;  // few rows: some 100 KB of weights, many microseconds of reading
inline constexpr std::int64_t kPackedPanelCols = 48;  // many rows: x is read from beyond the second cache once for these
inline constexpr std::int64_t kStripCols = 12;        // and worked on in strips: see kBlockDepth in packed_tile-inl.hpp

// Up to here the weights are read where they lie; above, both operands are packed.
inline constexpr std::int64_t kStreamRows = 4;

// Rows of which one vector's share of x (96 x 4 KB / 2, 196 KB) and the lane sums (96 x 12 x 64 bytes, 74 KB) stay in a
// 512 KB second-level cache while the panel's tiles pass over them. A multiple of 4 and 6.
inline constexpr std::int64_t kBlockRows = 96;

// Rows of x packed at once: bounds the packed copy (28 MB at 18432 columns); the weights are read once for each such set.
inline constexpr std::int64_t kPackedRows = 384;

// Below this many multiply-adds (about 10 us) handing work to other threads costs more than it brings.
inline constexpr std::int64_t kInlineProducts = 1 << 19;

struct GemmJob {
  float* out = nullptr;
  std::int64_t out_stride = 0;
  const float* x = nullptr;
  std::int64_t x_stride = 0;
  std::int64_t rows = 0;
  const WeightMatrix* weight = nullptr;
  const float* x_tail = nullptr;  // few rows: [rows, 16], the last cols % 16 columns of x, padded with +0
  float* packed = nullptr;        // many rows: x in the order in which tiles read it, padded with +0
};

}  // namespace consort::kernels::cpu
