// Register tiles: R x C dot products in canonical lanes over one block of k, and the sums of their lanes.
// SPDX-License-Identifier: Apache-2.0

#if defined(CONSORT_KERNELS_CPU_TILE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef CONSORT_KERNELS_CPU_TILE_INL
#undef CONSORT_KERNELS_CPU_TILE_INL
#else
#define CONSORT_KERNELS_CPU_TILE_INL
#endif

#include "kernels/cpu/expand-inl.hpp"
#include "kernels/cpu/lanes-inl.hpp"
#include "runtime/check.hpp"

HWY_BEFORE_NAMESPACE();
namespace consort::kernels {
namespace HWY_NAMESPACE {

// A tile runs over k once for each vector of the 16 lanes: with 8 lanes to a vector, first lanes 0..7 of every sixteen,
// then lanes 8..15. So a tile of 4 x 3 needs 12 accumulators where both halves at once would need 24, and every loaded
// value is used three or four times. The lanes of a product are independent, so this changes no bits.
#if HWY_TARGET == HWY_AVX2
inline constexpr std::size_t kTileRows = 4;  // 12 accumulators, 3 weights and 1 of x: all 16 registers
inline constexpr std::size_t kTileCols = 3;
#else
inline constexpr std::size_t kTileRows = 6;  // 24 accumulators, 4 weights and 1 of x of 32 registers
inline constexpr std::size_t kTileCols = 4;
#endif

// Operands of a tile. Rows of x and rows of w (the columns of the product) lie x_stride and w_stride elements apart.
// sums holds 16 lanes for each product: product (r, c) at sums + (r * sums_row + c) * 16.
template <class Weight>
struct Tile {
  const float* x;
  std::size_t x_stride;
  const typename Weight::Stored* w;
  std::size_t w_stride;
  std::size_t sixteens;  // length of the block in units of 16
  float* sums;
  std::size_t sums_row;
  bool first;  // the lanes start from +0 rather than from sums
};

template <std::size_t R, std::size_t C, class Weight>
HWY_NOINLINE void run_tile(const Tile<Weight>& tile) {
  const D d;
  for (std::size_t part = 0; part < kVectors; ++part) {
    const float* HWY_RESTRICT x = tile.x + part * kWidth;
    const typename Weight::Stored* HWY_RESTRICT w = tile.w + part * kWidth;
    float* sums = tile.sums + part * kWidth;
    V a[R][C];
    CONSORT_UNROLL
    for (std::size_t r = 0; r < R; ++r) {
      CONSORT_UNROLL
      for (std::size_t c = 0; c < C; ++c) {
        a[r][c] = tile.first ? hn::Zero(d) : hn::LoadU(d, sums + (r * tile.sums_row + c) * kLanes);
      }
    }
    for (std::size_t i = 0; i < tile.sixteens; ++i) {
      V wv[C];
      CONSORT_UNROLL
      for (std::size_t c = 0; c < C; ++c) wv[c] = Weight::expand(w + c * tile.w_stride);
      CONSORT_UNROLL
      for (std::size_t r = 0; r < R; ++r) {
        const V xv = hn::LoadU(d, x + r * tile.x_stride);
        CONSORT_UNROLL
        for (std::size_t c = 0; c < C; ++c) a[r][c] = hn::MulAdd(xv, wv[c], a[r][c]);
      }
      x += kLanes;
      w += kLanes;
    }
    CONSORT_UNROLL
    for (std::size_t r = 0; r < R; ++r) {
      CONSORT_UNROLL
      for (std::size_t c = 0; c < C; ++c) hn::StoreU(a[r][c], d, sums + (r * tile.sums_row + c) * kLanes);
    }
  }
}

template <std::size_t C, class Weight>
HWY_INLINE void run_tile_rows(const Tile<Weight>& tile, std::size_t rows) {
  switch (rows) {
    case 1:
      return run_tile<1, C>(tile);
    case 2:
      return run_tile<2, C>(tile);
    case 3:
      return run_tile<3, C>(tile);
    case 4:
      return run_tile<4, C>(tile);
#if HWY_TARGET != HWY_AVX2
    case 5:
      return run_tile<5, C>(tile);
    case 6:
      return run_tile<6, C>(tile);
#endif
    default:
      CONSORT_CHECK(false, rows);
  }
}

// rows x cols products over one block of k, in tiles. The rows of w go outside, so that a tile's three or four weights
// stay in the first cache while x passes by from the second.
template <class Weight>
HWY_INLINE void run_block(const Tile<Weight>& block, std::size_t rows, std::size_t cols) {
  for (std::size_t c = 0; c < cols;) {
    const bool full = c + kTileCols <= cols;
    Tile<Weight> tile = block;
    tile.w = block.w + c * block.w_stride;
    for (std::size_t r = 0; r < rows; r += kTileRows) {
      tile.x = block.x + r * block.x_stride;
      tile.sums = block.sums + (r * block.sums_row + c) * kLanes;
      const std::size_t count = rows - r < kTileRows ? rows - r : kTileRows;
      full ? run_tile_rows<kTileCols>(tile, count) : run_tile_rows<1>(tile, count);
    }
    c += full ? kTileCols : 1;
  }
}

// out[c] = the sums of `count` products that lie side by side.
HWY_INLINE void reduce_row(float* out, const float* sums, std::size_t count) {
  std::size_t c = 0;
  for (; c + 4 <= count; c += 4) {
    const float* s = sums + c * kLanes;
    hn::StoreU(fold_four(fold_to_four(load_lanes(s)), fold_to_four(load_lanes(s + kLanes)),
                         fold_to_four(load_lanes(s + 2 * kLanes)), fold_to_four(load_lanes(s + 3 * kLanes))),
               D4(), out + c);
  }
  for (; c < count; ++c) out[c] = sum(load_lanes(sums + c * kLanes));
}

}  // namespace HWY_NAMESPACE
}  // namespace consort::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
