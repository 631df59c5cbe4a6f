// gemm of many rows: both operands are packed in the order of use, so that a tile reads two plain streams.
// SPDX-License-Identifier: Apache-2.0

#if defined(CONSORT_KERNELS_CPU_PACKED_TILE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef CONSORT_KERNELS_CPU_PACKED_TILE_INL
#undef CONSORT_KERNELS_CPU_PACKED_TILE_INL
#else
#define CONSORT_KERNELS_CPU_PACKED_TILE_INL
#endif

#include "kernels/cpu/tile-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace consort::kernels {
namespace HWY_NAMESPACE {

// Columns of k in one block. One vector's share of a panel (12 columns, 24 KB) then stays in a first-level cache of 32 KB
// while x passes by, and a tile loads and stores its lane sums once in 64 steps (32 with 16 lanes to a vector). Measured
// on Zen 3: blocks of half the depth and panels of half the columns lose about 5 %.
inline constexpr std::size_t kBlockDepth = 512 * (kVectors < 2 ? kVectors : 2);

// R x C products of one part (vector) of the lanes. x: [sixteens][R][kWidth], w: [sixteens][C][kWidth],
// sums: [R][C][kWidth], so that consecutive tiles touch consecutive memory.
template <std::size_t R, std::size_t C>
HWY_NOINLINE void packed_tile(const float* HWY_RESTRICT x, const float* HWY_RESTRICT w, std::size_t sixteens,
                              float* HWY_RESTRICT sums, bool first) {
  const D d;
  V a[R][C];
  CONSORT_UNROLL
  for (std::size_t r = 0; r < R; ++r) {
    CONSORT_UNROLL
    for (std::size_t c = 0; c < C; ++c) {
      a[r][c] = first ? hn::Zero(d) : hn::LoadU(d, sums + (r * C + c) * kWidth);
    }
  }
  for (std::size_t i = 0; i < sixteens; ++i) {
    V wv[C];
    CONSORT_UNROLL
    for (std::size_t c = 0; c < C; ++c) wv[c] = hn::LoadU(d, w + c * kWidth);
    CONSORT_UNROLL
    for (std::size_t r = 0; r < R; ++r) {
      const V xv = hn::LoadU(d, x + r * kWidth);
      CONSORT_UNROLL
      for (std::size_t c = 0; c < C; ++c) a[r][c] = hn::MulAdd(xv, wv[c], a[r][c]);
    }
    x += R * kWidth;
    w += C * kWidth;
  }
  CONSORT_UNROLL
  for (std::size_t r = 0; r < R; ++r) {
    CONSORT_UNROLL
    for (std::size_t c = 0; c < C; ++c) hn::StoreU(a[r][c], d, sums + (r * C + c) * kWidth);
  }
}

template <std::size_t C>
HWY_INLINE void packed_rows(const float* x, const float* w, std::size_t rows, std::size_t sixteens, float* sums, bool first) {
  switch (rows) {
    case 1: return packed_tile<1, C>(x, w, sixteens, sums, first);
    case 2: return packed_tile<2, C>(x, w, sixteens, sums, first);
    case 3: return packed_tile<3, C>(x, w, sixteens, sums, first);
    case 4: return packed_tile<4, C>(x, w, sixteens, sums, first);
#if HWY_TARGET != HWY_AVX2
    case 5: return packed_tile<5, C>(x, w, sixteens, sums, first);
    case 6: return packed_tile<6, C>(x, w, sixteens, sums, first);
#endif
    default: CONSORT_CHECK(false, rows);
  }
}

// One part (vector) of the lanes of rows x cols products over one block of k. Tiles of rows (of columns) lie one behind
// the other: the one that starts at row r is at r * sixteens * kWidth. sums: [tile of rows][tile of columns][R][C][kWidth].
HWY_INLINE void packed_part(const float* x, const float* w, std::size_t rows, std::size_t cols, std::size_t sixteens,
                            float* sums, bool first) {
  const std::size_t row_length = sixteens * kWidth;
  for (std::size_t r = 0; r < rows; r += kTileRows) {
    const std::size_t count = rows - r < kTileRows ? rows - r : kTileRows;
    const float* x_tile = x + r * row_length;
    float* sums_tiles = sums + r * cols * kWidth;
    std::size_t c = 0;
    for (; c + kTileCols <= cols; c += kTileCols) {
      packed_rows<kTileCols>(x_tile, w + c * row_length, count, sixteens, sums_tiles + c * count * kWidth, first);
    }
    for (; c < cols; ++c) packed_rows<1>(x_tile, w + c * row_length, count, sixteens, sums_tiles + c * count * kWidth, first);
  }
}

// The lane sums of row r from the parts' sums, each rows * cols * kWidth long, back in the order of columns and lanes.
HWY_INLINE void unpack_sums(float* HWY_RESTRICT row, const float* HWY_RESTRICT sums, std::size_t r, std::size_t rows,
                            std::size_t cols) {
  const std::size_t tile_row = r / kTileRows * kTileRows;
  const std::size_t count = rows - tile_row < kTileRows ? rows - tile_row : kTileRows;
  const std::size_t in_tiles = cols / kTileCols * kTileCols;
  for (std::size_t c = 0; c < cols; ++c) {
    const std::size_t width = c < in_tiles ? kTileCols : 1;
    const std::size_t tile_col = c < in_tiles ? c / kTileCols * kTileCols : c;
    const std::size_t at = tile_row * cols + tile_col * count + (r - tile_row) * width + (c - tile_col);
    CONSORT_UNROLL
    for (std::size_t v = 0; v < kVectors; ++v) {
      hn::StoreU(hn::LoadU(D(), sums + (v * rows * cols + at) * kWidth), D(), row + c * kLanes + v * kWidth);
    }
  }
}

// One row of n stored values into its place among `count` interleaved ones; padded with +0 to whole sixteens.
template <class Weight>
HWY_INLINE void pack_row(float* HWY_RESTRICT packed, std::size_t part_length, std::size_t count,
                         const typename Weight::Stored* HWY_RESTRICT row, std::size_t n) {
  const D d;
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    CONSORT_UNROLL
    for (std::size_t v = 0; v < kVectors; ++v) {
      hn::StoreU(Weight::expand(row + i + v * kWidth), d, packed + v * part_length);
    }
    packed += count * kWidth;
  }
  if (i == n) return;
  typename Weight::Stored rest[kLanes] = {};
  std::memcpy(rest, row + i, (n - i) * sizeof(rest[0]));
  for (std::size_t v = 0; v < kVectors; ++v) hn::StoreU(Weight::expand(rest + v * kWidth), d, packed + v * part_length);
}

}  // namespace HWY_NAMESPACE
}  // namespace consort::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
