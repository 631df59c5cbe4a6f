// The register tile under gemm and attention: R x C dot products in canonical lanes over one block of k.
// SPDX-License-Identifier: Apache-2.0

#if defined(CONSORT_KERNELS_CPU_TILE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef CONSORT_KERNELS_CPU_TILE_INL
#undef CONSORT_KERNELS_CPU_TILE_INL
#else
#define CONSORT_KERNELS_CPU_TILE_INL
#endif

#include <hwy/cache_control.h>

#include "kernels/cpu/expand-inl.hpp"
#include "kernels/cpu/gemm_job.hpp"
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
    case 1: return run_tile<1, C>(tile);
    case 2: return run_tile<2, C>(tile);
    case 3: return run_tile<3, C>(tile);
    case 4: return run_tile<4, C>(tile);
#if HWY_TARGET != HWY_AVX2
    case 5: return run_tile<5, C>(tile);
    case 6: return run_tile<6, C>(tile);
#endif
    default: CONSORT_CHECK(false, rows);
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

// ---- Many rows: both operands packed in the order of use, so that a tile reads two streams and no cache set fills up.

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

// Tiles of rows (or columns) lie one behind the other: the one that starts at row r is at r * sixteens * kWidth of its
// part, and a part is as long as all rows together.
// sums: a part (plane) is [tile of rows][tile of columns][R][C][kWidth].
HWY_INLINE void packed_block(const float* x, std::size_t x_part, const float* w, std::size_t w_part, std::size_t rows,
                             std::size_t cols, std::size_t sixteens, float* sums, bool first) {
  const std::size_t row_length = sixteens * kWidth;
  for (std::size_t part = 0; part < kVectors; ++part) {
    const float* w_tiles = w + part * w_part;
    for (std::size_t r = 0; r < rows; r += kTileRows) {
      const std::size_t count = rows - r < kTileRows ? rows - r : kTileRows;
      const float* x_tile = x + part * x_part + r * row_length;
      float* sums_tiles = sums + (part * rows + r) * cols * kWidth;
      std::size_t c = 0;
      for (; c + kTileCols <= cols; c += kTileCols) {
        packed_rows<kTileCols>(x_tile, w_tiles + c * row_length, count, sixteens, sums_tiles + c * count * kWidth, first);
      }
      for (; c < cols; ++c) {
        packed_rows<1>(x_tile, w_tiles + c * row_length, count, sixteens, sums_tiles + c * count * kWidth, first);
      }
    }
  }
}

// The lane sums of row r of a packed block, back in the order of columns and lanes.
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

// ---- Few rows: the weights are read once, as they lie, with all 16 lanes in registers, as fast as memory gives them.

inline constexpr std::size_t kStreamRows = static_cast<std::size_t>(cpu::kStreamRows);

// Bytes ahead of its use that a weight is asked for: memory answers in about 100 ns, in which a core reads 1-2 KB.
inline constexpr std::size_t kPrefetchBytes = 1024;

template <std::size_t R, std::size_t C, class Weight>
HWY_NOINLINE void stream_tile(const Tile<Weight>& tile) {
  const D d;
  const float* HWY_RESTRICT x = tile.x;
  const typename Weight::Stored* HWY_RESTRICT w = tile.w;
  V a[R][C][kVectors];
  CONSORT_UNROLL
  for (std::size_t r = 0; r < R; ++r) {
    CONSORT_UNROLL
    for (std::size_t c = 0; c < C; ++c) {
      CONSORT_UNROLL
      for (std::size_t v = 0; v < kVectors; ++v) {
        a[r][c][v] =
            tile.first ? hn::Zero(d) : hn::LoadU(d, tile.sums + (r * tile.sums_row + c) * kLanes + v * kWidth);
      }
    }
  }
  for (std::size_t i = 0; i < tile.sixteens; ++i) {
    CONSORT_UNROLL
    for (std::size_t c = 0; c < C; ++c) {
      hwy::Prefetch(w + c * tile.w_stride + kPrefetchBytes / sizeof(*w));
      CONSORT_UNROLL
      for (std::size_t v = 0; v < kVectors; ++v) {
        const V wv = Weight::expand(w + c * tile.w_stride + v * kWidth);
        CONSORT_UNROLL
        for (std::size_t r = 0; r < R; ++r) {
          a[r][c][v] = hn::MulAdd(hn::LoadU(d, x + r * tile.x_stride + v * kWidth), wv, a[r][c][v]);
        }
      }
    }
    x += kLanes;
    w += kLanes;
  }
  CONSORT_UNROLL
  for (std::size_t r = 0; r < R; ++r) {
    CONSORT_UNROLL
    for (std::size_t c = 0; c < C; ++c) {
      CONSORT_UNROLL
      for (std::size_t v = 0; v < kVectors; ++v) {
        hn::StoreU(a[r][c][v], d, tile.sums + (r * tile.sums_row + c) * kLanes + v * kWidth);
      }
    }
  }
}

// Columns side by side in a stream tile of R rows: what 16 registers of 8 lanes hold.
template <std::size_t R>
inline constexpr std::size_t kStreamCols = R == 1 ? 4 : (R == 4 ? 1 : 2);

template <std::size_t R, class Weight>
HWY_INLINE void stream_rows(Tile<Weight> tile, std::size_t cols) {
  std::size_t c = 0;
  for (; c + kStreamCols<R> <= cols; c += kStreamCols<R>) {
    stream_tile<R, kStreamCols<R>>(tile);
    tile.w += kStreamCols<R> * tile.w_stride;
    tile.sums += kStreamCols<R> * kLanes;
  }
  for (; c < cols; ++c) {
    stream_tile<R, 1>(tile);
    tile.w += tile.w_stride;
    tile.sums += kLanes;
  }
}

template <class Weight>
HWY_INLINE void stream_block(const Tile<Weight>& tile, std::size_t rows, std::size_t cols) {
  switch (rows) {
    case 1: return stream_rows<1>(tile, cols);
    case 2: return stream_rows<2>(tile, cols);
    case 3: return stream_rows<3>(tile, cols);
    case 4: return stream_rows<4>(tile, cols);
    default: CONSORT_CHECK(false, rows);
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
