// gemm.hpp on the CPU, compiled once per instruction set. The product is cut into panels of columns, one worker each; a
// panel walks k in blocks and keeps 16 lane sums per product between them. No cut changes the order within a product.
#include "kernels/gemm.hpp"

#include <algorithm>
#include <functional>
#include <vector>

#include "kernels/cpu/check_weight.hpp"
#include "kernels/cpu/dispatch.hpp"
#include "kernels/cpu/gemm_job.hpp"
#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/expand-inl.hpp"
#include "kernels/cpu/lanes-inl.hpp"
#include "kernels/cpu/packed_tile-inl.hpp"
#include "kernels/cpu/stream_tile-inl.hpp"
#include "kernels/cpu/tile-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace consort::kernels {
namespace HWY_NAMESPACE {

using cpu::GemmJob;

constexpr std::int64_t kDepth = static_cast<std::int64_t>(kBlockDepth);
constexpr std::int64_t kSixteen = static_cast<std::int64_t>(kLanes);

std::int64_t padded(std::int64_t n) { return (n + kSixteen - 1) / kSixteen * kSixteen; }

// ---- Few rows.

// Sums over the whole sixteens of k, weights read in place.
template <class Weight>
void stream_in_place(float* sums, const GemmJob& job, std::int64_t first_col, std::size_t cols, std::int64_t whole) {
  const auto* w = reinterpret_cast<const typename Weight::Stored*>(job.weight->data) + first_col * job.weight->row_stride;
  stream_block(Tile<Weight>{job.x, static_cast<std::size_t>(job.x_stride), w,
                            static_cast<std::size_t>(job.weight->row_stride), static_cast<std::size_t>(whole / kSixteen),
                            sums, cols, true},
               static_cast<std::size_t>(job.rows), cols);
}

// FP8, where scales change along k: four columns at a time are expanded into the first-level cache.
void stream_expanded(float* sums, const GemmJob& job, std::int64_t first_col, std::size_t cols, std::int64_t whole) {
  constexpr std::size_t kAtOnce = 4;
  HWY_ALIGN float expanded[kAtOnce * kBlockDepth];
  for (std::size_t c = 0; c < cols; c += kAtOnce) {
    const std::size_t count = std::min(kAtOnce, cols - c);
    for (std::int64_t k = 0; k < whole; k += kDepth) {
      const std::int64_t depth = std::min(kDepth, whole - k);
      for (std::size_t i = 0; i < count; ++i) {
        expand_piece(expanded + i * kBlockDepth, *job.weight, first_col + static_cast<std::int64_t>(c + i), k, depth);
      }
      stream_block(Tile<F32Weight>{job.x + k, static_cast<std::size_t>(job.x_stride), expanded, kBlockDepth,
                                   static_cast<std::size_t>(depth / kSixteen), sums + c * kLanes, cols, k == 0},
                   static_cast<std::size_t>(job.rows), count);
    }
  }
}

// The last columns of k, fewer than 16, padded with +0.
void stream_tail(float* sums, const GemmJob& job, std::int64_t first_col, std::size_t cols, std::int64_t whole) {
  if (whole == job.weight->cols) return;
  HWY_ALIGN float w[cpu::kStreamPanelCols * kLanes] = {};
  for (std::size_t c = 0; c < cols; ++c) {
    expand_piece(w + c * kLanes, *job.weight, first_col + static_cast<std::int64_t>(c), whole, job.weight->cols - whole);
  }
  stream_block(Tile<F32Weight>{job.x_tail, kLanes, w, kLanes, 1, sums, cols, whole == 0},
               static_cast<std::size_t>(job.rows), cols);
}

void stream_panel(const GemmJob& job, std::int64_t first_col, std::int64_t col_count) {
  HWY_ALIGN float sums[kStreamRows * cpu::kStreamPanelCols * kLanes];
  const auto cols = static_cast<std::size_t>(col_count);
  const std::int64_t whole = job.weight->cols / kSixteen * kSixteen;
  if (whole > 0) {
    switch (job.weight->dtype) {
      case runtime::Dtype::kF32: stream_in_place<F32Weight>(sums, job, first_col, cols, whole); break;
      case runtime::Dtype::kBf16: stream_in_place<Bf16Weight>(sums, job, first_col, cols, whole); break;
      case runtime::Dtype::kF16: stream_in_place<F16Weight>(sums, job, first_col, cols, whole); break;
      default: stream_expanded(sums, job, first_col, cols, whole); break;
    }
  }
  stream_tail(sums, job, first_col, cols, whole);
  for (std::int64_t r = 0; r < job.rows; ++r) {
    reduce_row(job.out + r * job.out_stride + first_col, sums + static_cast<std::size_t>(r) * cols * kLanes, cols);
  }
}

// ---- Many rows.

// Block b of k: all rows of x, in sets of kBlockRows, each set [part][tile][sixteen][row of the tile][kWidth].
void pack_x(const GemmJob& job, std::int64_t block) {
  const std::int64_t first = block * kDepth;
  const std::int64_t depth = std::min(kDepth, job.weight->cols - first);
  const std::int64_t length = padded(depth);
  float* packed = job.packed + first * job.rows;
  for (std::int64_t r = 0; r < job.rows; ++r) {
    const std::int64_t set = r / cpu::kBlockRows * cpu::kBlockRows;
    const std::int64_t set_rows = std::min(cpu::kBlockRows, job.rows - set);
    const std::int64_t tile = (r - set) / static_cast<std::int64_t>(kTileRows) * static_cast<std::int64_t>(kTileRows);
    const std::int64_t count = std::min(static_cast<std::int64_t>(kTileRows), set_rows - tile);
    const std::int64_t part_row = length / static_cast<std::int64_t>(kVectors);
    pack_row<F32Weight>(packed + set * length + tile * part_row + (r - set - tile) * static_cast<std::int64_t>(kWidth),
                        static_cast<std::size_t>(set_rows * part_row), static_cast<std::size_t>(count),
                        job.x + r * job.x_stride + first, static_cast<std::size_t>(depth));
  }
}

void pack_weights(float* packed, const GemmJob& job, std::int64_t first_col, std::size_t cols, std::int64_t k,
                  std::int64_t depth) {
  const auto n = static_cast<std::size_t>(depth);
  const std::size_t part_row = static_cast<std::size_t>(padded(depth)) / kVectors;
  const std::size_t in_tiles = cols / kTileCols * kTileCols;
  for (std::size_t c = 0; c < cols; ++c) {
    const std::size_t count = c < in_tiles ? kTileCols : 1;
    const std::size_t tile = c < in_tiles ? c / kTileCols * kTileCols : c;
    float* to = packed + tile * part_row + (c - tile) * kWidth;
    const std::int64_t row = first_col + static_cast<std::int64_t>(c);
    const std::int64_t at = row * job.weight->row_stride + k;
    const auto* two_bytes = reinterpret_cast<const std::uint16_t*>(job.weight->data) + at;
    switch (job.weight->dtype) {
      case runtime::Dtype::kF32:
        pack_row<F32Weight>(to, cols * part_row, count, reinterpret_cast<const float*>(job.weight->data) + at, n);
        break;
      case runtime::Dtype::kBf16: pack_row<Bf16Weight>(to, cols * part_row, count, two_bytes, n); break;
      case runtime::Dtype::kF16: pack_row<F16Weight>(to, cols * part_row, count, two_bytes, n); break;
      default: {
        HWY_ALIGN float expanded[kBlockDepth];
        expand_piece(expanded, *job.weight, row, k, depth);
        pack_row<F32Weight>(to, cols * part_row, count, expanded, n);
      }
    }
  }
}

// The columns of a panel are worked on in strips that stay in the first-level cache; the panel is wider, so that x comes
// to the second-level cache once for all its strips.
void packed_panel(const GemmJob& job, std::int64_t first_col, std::int64_t col_count) {
  constexpr std::size_t kStrip = cpu::kStripCols;
  constexpr std::size_t kStripWeights = kStrip * kBlockDepth;
  constexpr std::size_t kStripSums = static_cast<std::size_t>(cpu::kBlockRows) * kStrip * kLanes;
  constexpr std::size_t kStrips = cpu::kPackedPanelCols / cpu::kStripCols;
  thread_local std::vector<float> memory(kStrips * (kStripWeights + kStripSums));
  float* weights = memory.data();
  float* sums = weights + kStrips * kStripWeights;
  const auto cols = static_cast<std::size_t>(col_count);
  const auto strip_cols = [=](std::size_t strip) { return std::min(kStrip, cols - strip * kStrip); };
  const std::size_t strips = (cols + kStrip - 1) / kStrip;
  for (std::int64_t set = 0; set < job.rows; set += cpu::kBlockRows) {
    const auto rows = static_cast<std::size_t>(std::min(cpu::kBlockRows, job.rows - set));
    for (std::int64_t k = 0; k < job.weight->cols; k += kDepth) {
      const std::int64_t depth = std::min(kDepth, job.weight->cols - k);
      const auto length = static_cast<std::size_t>(padded(depth));
      const std::size_t part_row = length / kVectors;
      for (std::size_t s = 0; s < strips; ++s) {
        pack_weights(weights + s * kStripWeights, job, first_col + static_cast<std::int64_t>(s * kStrip), strip_cols(s), k,
                     depth);
      }
      const float* x = job.packed + k * job.rows + set * static_cast<std::int64_t>(length);
      for (std::size_t part = 0; part < kVectors; ++part) {
        for (std::size_t s = 0; s < strips; ++s) {
          packed_part(x + part * rows * part_row, weights + s * kStripWeights + part * strip_cols(s) * part_row, rows,
                      strip_cols(s), length / kLanes, sums + s * kStripSums + part * rows * strip_cols(s) * kWidth, k == 0);
        }
      }
    }
    for (std::size_t r = 0; r < rows; ++r) {
      float* out = job.out + (set + static_cast<std::int64_t>(r)) * job.out_stride + first_col;
      for (std::size_t s = 0; s < strips; ++s) {
        HWY_ALIGN float row[kStrip * kLanes];
        unpack_sums(row, sums + s * kStripSums, r, rows, strip_cols(s));
        reduce_row(out + s * kStrip, row, strip_cols(s));
      }
    }
  }
}

std::int64_t block_depth() { return kDepth; }

}  // namespace HWY_NAMESPACE
}  // namespace consort::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace consort::kernels {
namespace {

constexpr std::int64_t kSixteen = 16;  // lanes of a canonical dot product

// The last cols % 16 columns of every row, padded with +0; empty where there are none.
std::vector<float> padded_tail(const runtime::ConstTensorView& x) {
  const std::int64_t rest = x.cols() % kSixteen;
  std::vector<float> tail(rest == 0 ? 0 : static_cast<std::size_t>(x.rows() * kSixteen));
  for (std::int64_t t = 0; rest != 0 && t < x.rows(); ++t) {
    std::copy_n(x.f32(t) + x.cols() - rest, rest, tail.data() + t * kSixteen);
  }
  return tail;
}

}  // namespace

void gemm(runtime::TensorView out, runtime::ConstTensorView x, const WeightMatrix& weight, runtime::Workers& workers) {
  cpu::check_weight(weight);
  CONSORT_CHECK(out.dtype() == runtime::Dtype::kF32 && x.dtype() == runtime::Dtype::kF32, runtime::describe(out),
                runtime::describe(x));
  CONSORT_CHECK(x.cols() == weight.cols && out.cols() == weight.rows && out.rows() == x.rows(), runtime::describe(out),
                runtime::describe(x), weight.rows, weight.cols);
  if (x.rows() == 0 || weight.rows == 0) return;
  if (weight.cols == 0) {
    for (std::int64_t t = 0; t < out.rows(); ++t) std::fill_n(out.f32(t), out.cols(), 0.0f);
    return;
  }
  using Panel = void(const cpu::GemmJob&, std::int64_t, std::int64_t);
  const bool inline_only = x.rows() * weight.rows * weight.cols < cpu::kInlineProducts;
  const auto each = [&](std::int64_t n, const std::function<void(std::int64_t)>& body) {
    if (!inline_only) return workers.parallel_for(n, body);
    for (std::int64_t i = 0; i < n; ++i) body(i);
  };
  const auto run_panels = [&](const cpu::GemmJob& job, Panel* panel, std::int64_t panel_cols) {
    each((weight.rows + panel_cols - 1) / panel_cols, [&job, panel, panel_cols](std::int64_t i) {
      const std::int64_t first = i * panel_cols;
      panel(job, first, std::min(panel_cols, job.weight->rows - first));
    });
  };
  cpu::GemmJob job{out.f32(), out.row_stride(), x.f32(), x.row_stride(), x.rows(), &weight};
  if (job.rows <= cpu::kStreamRows) {
    std::vector<float> x_tail = padded_tail(x);
    job.x_tail = x_tail.data();
    return run_panels(job, CONSORT_CHOOSE(Panel, stream_panel), cpu::kStreamPanelCols);
  }
  auto* pack = CONSORT_CHOOSE(void(const cpu::GemmJob&, std::int64_t), pack_x);
  const std::int64_t depth = CONSORT_CHOOSE(std::int64_t(), block_depth)();
  const std::int64_t padded_cols = (weight.cols + kSixteen - 1) / kSixteen * kSixteen;
  thread_local std::vector<float> packed;  // of the calling thread: the panels of other threads only read it
  for (std::int64_t first = 0; first < x.rows(); first += cpu::kPackedRows) {
    job.rows = std::min(cpu::kPackedRows, x.rows() - first);
    job.x = x.f32(first);
    job.out = out.f32(first);
    packed.resize(std::max(packed.size(), static_cast<std::size_t>(job.rows * padded_cols)));
    job.packed = packed.data();
    each((weight.cols + depth - 1) / depth, [&job, pack](std::int64_t block) { pack(job, block); });
    run_panels(job, CONSORT_CHOOSE(Panel, packed_panel), cpu::kPackedPanelCols);
  }
}

}  // namespace consort::kernels
#endif  // HWY_ONCE
