// gemm.hpp on the CPU, compiled once per instruction set. The product is cut into panels of columns, one worker each; a
// panel walks k in blocks and keeps 16 lane sums per product between them. No cut changes the order within a product.
#include "kernels/gemm.hpp"

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
#include "kernels/cpu/tile-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace consort::kernels {
namespace HWY_NAMESPACE {

using cpu::GemmJob;

// Sums over the whole sixteens of k for rows [first_row, + rows) and columns [first_col, + cols), weights read in place.
template <class Weight>
void sums_in_place(float* sums, const GemmJob& job, std::int64_t first_row, std::size_t rows, std::int64_t first_col,
                   std::size_t cols) {
  const auto* w = reinterpret_cast<const typename Weight::Stored*>(job.weight->data) + first_col * job.weight->row_stride;
  const std::int64_t whole = job.weight->cols / cpu::kSixteen * cpu::kSixteen;
  for (std::int64_t k = 0; k < whole; k += cpu::kBlockDepth) {
    const std::int64_t depth = std::min(cpu::kBlockDepth, whole - k);
    run_block(Tile<Weight>{job.x + first_row * job.x_stride + k, static_cast<std::size_t>(job.x_stride), w + k,
                           static_cast<std::size_t>(job.weight->row_stride),
                           static_cast<std::size_t>(depth / cpu::kSixteen), sums, cols, k == 0},
              rows, cols);
  }
}

// The same with each block of weights expanded once into `scratch`, which pays where many rows use it.
void sums_expanded(float* sums, float* scratch, const GemmJob& job, std::int64_t first_row, std::size_t rows,
                   std::int64_t first_col, std::size_t cols) {
  const std::int64_t whole = job.weight->cols / cpu::kSixteen * cpu::kSixteen;
  for (std::int64_t k = 0; k < whole; k += cpu::kBlockDepth) {
    const std::int64_t depth = std::min(cpu::kBlockDepth, whole - k);
    for (std::size_t c = 0; c < cols; ++c) {
      expand_piece(scratch + static_cast<std::int64_t>(c) * cpu::kBlockDepth, *job.weight,
                   first_col + static_cast<std::int64_t>(c), k, depth);
    }
    run_block(Tile<F32Weight>{job.x + first_row * job.x_stride + k, static_cast<std::size_t>(job.x_stride), scratch,
                              static_cast<std::size_t>(cpu::kBlockDepth),
                              static_cast<std::size_t>(depth / cpu::kSixteen), sums, cols, k == 0},
              rows, cols);
  }
}

// The last columns of k, fewer than 16, padded with +0.
void sums_of_tail(float* sums, const GemmJob& job, std::int64_t first_row, std::size_t rows, std::int64_t first_col,
                  std::size_t cols) {
  const std::int64_t whole = job.weight->cols / cpu::kSixteen * cpu::kSixteen;
  const std::int64_t rest = job.weight->cols - whole;
  if (rest == 0) return;
  HWY_ALIGN float w[cpu::kPanelCols * cpu::kSixteen] = {};
  for (std::size_t c = 0; c < cols; ++c) {
    expand_piece(w + c * kLanes, *job.weight, first_col + static_cast<std::int64_t>(c), whole, rest);
  }
  run_block(Tile<F32Weight>{job.x_tail + first_row * cpu::kSixteen, kLanes, w, kLanes, 1, sums, cols, whole == 0}, rows,
            cols);
}

void gemm_panel(const GemmJob& job, std::int64_t first_col, std::int64_t col_count) {
  thread_local std::vector<float> memory(
      static_cast<std::size_t>(cpu::kPanelCols * (cpu::kBlockDepth + cpu::kBlockRows * cpu::kSixteen)));
  float* scratch = memory.data();
  float* sums = scratch + cpu::kPanelCols * cpu::kBlockDepth;
  const auto cols = static_cast<std::size_t>(col_count);
  for (std::int64_t first_row = 0; first_row < job.rows; first_row += cpu::kBlockRows) {
    const auto rows = static_cast<std::size_t>(std::min(cpu::kBlockRows, job.rows - first_row));
    const bool one_tile = rows <= kTileRows;
    if (job.weight->dtype == runtime::Dtype::kF32) {
      sums_in_place<F32Weight>(sums, job, first_row, rows, first_col, cols);
    } else if (job.weight->dtype == runtime::Dtype::kBf16 && one_tile) {
      sums_in_place<Bf16Weight>(sums, job, first_row, rows, first_col, cols);
    } else if (job.weight->dtype == runtime::Dtype::kF16 && one_tile) {
      sums_in_place<F16Weight>(sums, job, first_row, rows, first_col, cols);
    } else {
      sums_expanded(sums, scratch, job, first_row, rows, first_col, cols);
    }
    sums_of_tail(sums, job, first_row, rows, first_col, cols);
    for (std::size_t r = 0; r < rows; ++r) {
      reduce_row(job.out + (first_row + static_cast<std::int64_t>(r)) * job.out_stride + first_col,
                 sums + r * cols * kLanes, cols);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace consort::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace consort::kernels {

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
  cpu::GemmJob job{out.f32(), out.row_stride(), x.f32(), x.row_stride(), x.rows(), &weight, nullptr};
  std::vector<float> x_tail;
  if (const std::int64_t rest = weight.cols % cpu::kSixteen; rest != 0) {
    x_tail.assign(static_cast<std::size_t>(x.rows() * cpu::kSixteen), 0.0f);
    for (std::int64_t t = 0; t < x.rows(); ++t) {
      std::copy_n(x.f32(t) + weight.cols - rest, rest, x_tail.data() + t * cpu::kSixteen);
    }
    job.x_tail = x_tail.data();
  }
  auto* panel = CONSORT_CHOOSE(void(const cpu::GemmJob&, std::int64_t, std::int64_t), gemm_panel);
  const std::int64_t panels = (weight.rows + cpu::kPanelCols - 1) / cpu::kPanelCols;
  const auto run = [&](std::int64_t i) {
    const std::int64_t first = i * cpu::kPanelCols;
    panel(job, first, std::min(cpu::kPanelCols, weight.rows - first));
  };
  if (x.rows() * weight.rows * weight.cols < cpu::kInlineProducts) {
    for (std::int64_t i = 0; i < panels; ++i) run(i);
  } else {
    workers.parallel_for(panels, run);
  }
}

}  // namespace consort::kernels
#endif  // HWY_ONCE
