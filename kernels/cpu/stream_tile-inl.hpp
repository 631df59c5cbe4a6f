// gemm of few rows: the weights are read once, as they lie, with all 16 lanes in registers, as fast as memory gives
// them. SPDX-License-Identifier: Apache-2.0

#if defined(CONSORT_KERNELS_CPU_STREAM_TILE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef CONSORT_KERNELS_CPU_STREAM_TILE_INL
#undef CONSORT_KERNELS_CPU_STREAM_TILE_INL
#else
#define CONSORT_KERNELS_CPU_STREAM_TILE_INL
#endif

#include <hwy/cache_control.h>

#include "kernels/cpu/gemm_job.hpp"
#include "kernels/cpu/tile-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace consort::kernels {
namespace HWY_NAMESPACE {

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
        a[r][c][v] = tile.first ? hn::Zero(d) : hn::LoadU(d, tile.sums + (r * tile.sums_row + c) * kLanes + v * kWidth);
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
    case 1:
      return stream_rows<1>(tile, cols);
    case 2:
      return stream_rows<2>(tile, cols);
    case 3:
      return stream_rows<3>(tile, cols);
    case 4:
      return stream_rows<4>(tile, cols);
    default:
      CONSORT_CHECK(false, rows);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace consort::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
