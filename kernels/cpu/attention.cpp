// attention.hpp on the CPU, compiled once per instruction set. The unit of work is some heads of one query: it walks
// the pages from left to right and keeps, per head, a running maximum, a running sum and the row of `out`.
#include "kernels/attention.hpp"

#include <cmath>
#include <vector>

#include "kernels/cpu/attention_job.hpp"
#include "kernels/cpu/dispatch.hpp"
#include "kernels/cpu/targets.hpp"
#include "kernels/scalar_math.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/lanes-inl.hpp"
#include "kernels/cpu/tile-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace consort::kernels {
namespace HWY_NAMESPACE {

using cpu::AttentionJob;
using cpu::kHeadBlock;
inline constexpr std::size_t kPage = kPagePositions;

// What one unit of work keeps while it walks the pages.
struct Walk {
  float sums[kHeadBlock * kPage * kLanes];  // lane sums of a page's scores
  float weights[kHeadBlock * kPage];        // scores, then exp(score - maximum of the page)
  float largest[kHeadBlock];                // running maximum
  float total[kHeadBlock];                  // running sum of exponentials
  float keep[kHeadBlock];                   // what a page's fold multiplies the row so far with
  float take[kHeadBlock];                   // and the page's own value sums
};

// weights[h, j] = scale * dot(query h, page row j) for j in [0, count).
void score_page(Walk& walk, const AttentionJob& job, const float* query, std::size_t heads, const float* page,
                std::size_t count) {
  const std::size_t whole = job.width / kLanes * kLanes;
  run_block(Tile<F32Weight>{query, job.width, page, job.width, whole / kLanes, walk.sums, count, true}, heads, count);
  if (const std::size_t rest = job.width - whole; rest != 0) {
    HWY_ALIGN float q[kHeadBlock * kLanes];
    HWY_ALIGN float k[kPage * kLanes];
    for (std::size_t h = 0; h < heads; ++h) pad_to_lanes(q + h * kLanes, query + h * job.width + whole, rest);
    for (std::size_t j = 0; j < count; ++j) pad_to_lanes(k + j * kLanes, page + j * job.width + whole, rest);
    run_block(Tile<F32Weight>{q, kLanes, k, kLanes, 1, walk.sums, count, false}, heads, count);
  }
  const V scale = hn::Set(D(), job.scale);
  for (std::size_t h = 0; h < heads; ++h) {
    float* row = walk.weights + h * kPage;
    reduce_row(row, walk.sums + h * count * kLanes, count);
    for_each_vector(row, count, [&](float* p) HWY_ATTR { hn::StoreU(hn::Mul(hn::LoadU(D(), p), scale), D(), p); });
  }
}

// The page's exponentials and sum for one head, folded into the running maximum and sum.
void fold_scores(Walk& walk, std::size_t h, std::size_t count, bool first_page) {
  float* row = walk.weights + h * kPage;
  const float page_largest = max_of(row, count);
  const V largest = hn::Set(D(), page_largest);
  for_each_vector(row, count,
                  [&](float* p) HWY_ATTR { hn::StoreU(exp_lanes(hn::Sub(hn::LoadU(D(), p), largest)), D(), p); });
  const float page_total = sum_lanes(row, count);
  if (first_page) {
    walk.largest[h] = page_largest;
    walk.total[h] = page_total;
    return;
  }
  const float both = page_largest > walk.largest[h] ? page_largest : walk.largest[h];
  walk.keep[h] = kernels::exp(walk.largest[h] - both);
  walk.take[h] = kernels::exp(page_largest - both);
  walk.total[h] = std::fma(walk.total[h], walk.keep[h], page_total * walk.take[h]);
  walk.largest[h] = both;
}

// Value sums of one page for R heads and N vectors of latent columns, folded into out.
template <std::size_t R, std::size_t N>
HWY_INLINE void value_tile(float* HWY_RESTRICT out, const AttentionJob& job, const Walk& walk, std::size_t head,
                           const float* HWY_RESTRICT page, std::size_t count, std::size_t column, bool first_page) {
  const D d;
  V a[R][N];
  CONSORT_UNROLL
  for (std::size_t r = 0; r < R; ++r) {
    CONSORT_UNROLL
    for (std::size_t n = 0; n < N; ++n) a[r][n] = hn::Zero(d);
  }
  const float* weights = walk.weights + head * kPage;
  for (std::size_t j = 0; j < count; ++j) {
    const float* values = page + j * job.width + column;
    V v[N];
    CONSORT_UNROLL
    for (std::size_t n = 0; n < N; ++n) v[n] = hn::LoadU(d, values + n * kWidth);
    CONSORT_UNROLL
    for (std::size_t r = 0; r < R; ++r) {
      const V w = hn::Set(d, weights[r * kPage + j]);
      CONSORT_UNROLL
      for (std::size_t n = 0; n < N; ++n) a[r][n] = hn::MulAdd(w, v[n], a[r][n]);
    }
  }
  CONSORT_UNROLL
  for (std::size_t r = 0; r < R; ++r) {
    float* row = out + (head + r) * job.latent + column;
    const V keep = hn::Set(d, walk.keep[head + r]);
    const V take = hn::Set(d, walk.take[head + r]);
    CONSORT_UNROLL
    for (std::size_t n = 0; n < N; ++n) {
      V value = a[r][n];
      if (!first_page) value = hn::MulAdd(hn::LoadU(d, row + n * kWidth), keep, hn::Mul(value, take));
      hn::StoreU(value, d, row + n * kWidth);
    }
  }
}

template <std::size_t R>
void value_rows(float* out, const AttentionJob& job, const Walk& walk, std::size_t head, const float* page,
                std::size_t count, bool first_page) {
  constexpr std::size_t kMany = 2;  // 4 x 2 accumulators hide the latency of the multiply-add and fit 16 registers
  std::size_t column = 0;
  for (; column + kMany * kWidth <= job.latent; column += kMany * kWidth) {
    value_tile<R, kMany>(out, job, walk, head, page, count, column, first_page);
  }
  for (; column + kWidth <= job.latent; column += kWidth) {
    value_tile<R, 1>(out, job, walk, head, page, count, column, first_page);
  }
  for (; column < job.latent; ++column) {
    for (std::size_t h = head; h < head + R; ++h) {
      float value = 0.0f;
      for (std::size_t j = 0; j < count; ++j) {
        value = std::fma(walk.weights[h * kPage + j], page[j * job.width + column], value);
      }
      float& at = out[h * job.latent + column];
      at = first_page ? value : std::fma(at, walk.keep[h], value * walk.take[h]);
    }
  }
}

void attend(const AttentionJob& job, const LatentQuery& row, std::size_t first_head, std::size_t heads) {
  thread_local std::vector<Walk> memory(1);
  Walk& walk = memory[0];
  const float* query = row.query + first_head * job.width;
  float* out = row.out + first_head * job.latent;
  const auto positions = static_cast<std::size_t>(row.position) + 1;
  for (std::size_t start = 0; start < positions; start += kPage) {
    const float* page = row.pages[start / kPage];
    const std::size_t count = positions - start < kPage ? positions - start : kPage;
    score_page(walk, job, query, heads, page, count);
    for (std::size_t h = 0; h < heads; ++h) fold_scores(walk, h, count, start == 0);
    std::size_t h = 0;
    for (; h + 4 <= heads; h += 4) value_rows<4>(out, job, walk, h, page, count, start == 0);
    for (; h < heads; ++h) value_rows<1>(out, job, walk, h, page, count, start == 0);
  }
  for (std::size_t h = 0; h < heads; ++h) {
    const V total = hn::Set(D(), walk.total[h]);
    for_each_vector(out + h * job.latent, job.latent,
                    [&](float* p) HWY_ATTR { hn::StoreU(hn::Div(hn::LoadU(D(), p), total), D(), p); });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace consort::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace consort::kernels {

void latent_attention(std::span<const LatentQuery> queries, std::int64_t heads, std::int64_t kv_lora_rank,
                      std::int64_t qk_rope_head_dim, float scale, runtime::Workers& workers) {
  CONSORT_CHECK(heads > 0 && kv_lora_rank > 0 && qk_rope_head_dim >= 0, heads, kv_lora_rank, qk_rope_head_dim);
  std::int64_t work = 0;
  for (const LatentQuery& row : queries) {
    CONSORT_CHECK(row.query != nullptr && row.out != nullptr && row.position >= 0, row.position);
    CONSORT_CHECK(row.position / kPagePositions < static_cast<std::int64_t>(row.pages.size()), row.position,
                  row.pages.size());
    work += (row.position + 1) * heads * (2 * kv_lora_rank + qk_rope_head_dim);
  }
  const auto latent = static_cast<std::size_t>(kv_lora_rank);
  const cpu::AttentionJob job{latent, latent + static_cast<std::size_t>(qk_rope_head_dim), scale};
  auto* attend = CONSORT_CHOOSE(void(const cpu::AttentionJob&, const LatentQuery&, std::size_t, std::size_t), attend);
  const auto block = static_cast<std::int64_t>(cpu::kHeadBlock);
  const std::int64_t blocks = (heads + block - 1) / block;
  const auto run = [&](std::int64_t i) {
    const std::int64_t first = i % blocks * block;
    attend(job, queries[static_cast<std::size_t>(i / blocks)], static_cast<std::size_t>(first),
           static_cast<std::size_t>(std::min(block, heads - first)));
  };
  const std::int64_t units = static_cast<std::int64_t>(queries.size()) * blocks;
  if (work < cpu::kInlineWork) {
    for (std::int64_t i = 0; i < units; ++i) run(i);
  } else {
    workers.parallel_for(units, run);
  }
}

}  // namespace consort::kernels
#endif  // HWY_ONCE
