// Absorbed multi-head latent attention over paged latent KV. DeepSeek-V2 (arXiv:2405.04434) section 2.1.2 and appendix C.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "runtime/tensor_view.hpp"
#include "runtime/workers.hpp"

namespace consort::kernels {

inline constexpr std::int64_t kPagePositions = 64;  // positions in a KV page, counted from position 0

// One query row: all heads of one token, and the pages that hold positions 0 .. position.
struct LatentQuery {
  const float* query = nullptr;   // [heads, kv_lora_rank + qk_rope_head_dim]: absorbed nope part, then rotated rope part
  float* out = nullptr;           // [heads, kv_lora_rank], overwritten with sum_j p_j * latent_j
  std::int64_t position = 0;      // reads positions 0 .. position
  std::span<const float* const> pages;  // page i: [64, kv_lora_rank + qk_rope_head_dim]: normed latent, then rotated key
};

// Per head: z_j = scale * dot(query, page row j) (16 canonical lanes), p = softmax(z), out = sum_j p_j latent_j.
// Per page: maximum, 16-lane sum of exp(z - max), value sums in position order with one accumulator per latent column
// (fma); pages are folded left to right. A row's bits depend on its own position and pages only.
void latent_attention(std::span<const LatentQuery> queries, std::int64_t heads, std::int64_t kv_lora_rank,
                      std::int64_t qk_rope_head_dim, float scale, runtime::Workers& workers);

}  // namespace consort::kernels
