// Absorbed multi-head latent attention over paged latent KV. DeepSeek-V2 (arXiv:2405.04434) section 2.1.2 and appendix
// C. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "runtime/tensor_view.hpp"
#include "runtime/workers.hpp"

namespace consort::kernels {

inline constexpr std::int64_t kPagePositions = 64;  // positions in a KV page, counted from position 0

// One query row: all heads of one token, and the pages that hold positions 0 .. position.
struct LatentQuery {
  const float* query = nullptr;  // [heads, kv_lora_rank + qk_rope_head_dim]: absorbed nope part, then rotated rope part
  float* out = nullptr;          // [heads, kv_lora_rank], overwritten with sum_j p_j * latent_j
  std::int64_t position = 0;     // reads positions 0 .. position
  std::span<const float* const>
      pages;  // page i: [64, kv_lora_rank + qk_rope_head_dim]: normed latent, then rotated key
};

// Per head: z_j = scale * dot(query, page row j) (16 canonical lanes), p = softmax(z), out = sum_j p_j latent_j.
// Per page: maximum m, 16-lane sum s of e_j = exp(z_j - m), value sums o in position order with one accumulator per
// latent column, o = fma(e_j, latent_j, o) from +0. The first page starts the row; every further page is folded from
// the left by
//   M = max(m, m_page), a = exp(m - M), b = exp(m_page - M), s = fma(s, a, s_page * b), o = fma(o, a, o_page * b), m =
//   M.
// At the end out = o / s. A row's bits depend on its own position and pages only. Memory beyond the operands is fixed
// (about 70 KB a thread), whatever the positions. NaN in a head's query or keys makes that head's row NaN.
void latent_attention(std::span<const LatentQuery> queries, std::int64_t heads, std::int64_t kv_lora_rank,
                      std::int64_t qk_rope_head_dim, float scale, runtime::Workers& workers);

}  // namespace consort::kernels
