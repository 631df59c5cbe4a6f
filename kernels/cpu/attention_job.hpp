// What every unit of one latent_attention call shares, and how large the pieces are.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace consort::kernels::cpu {

// Heads that walk the pages together: a page (147 KB at 576 wide) is read from the second cache once for all of them,
// and their lane sums (64 KB) and rows of out (32 KB at 512 latents) stay beside it.
inline constexpr std::size_t kHeadBlock = 16;

// Below this many multiply-adds (about 10 us) handing work to other threads costs more than it brings.
inline constexpr std::int64_t kInlineWork = 1 << 19;

struct AttentionJob {
  std::size_t latent = 0;  // kv_lora_rank
  std::size_t width = 0;   // kv_lora_rank + qk_rope_head_dim
  float scale = 0.0f;
};

}  // namespace consort::kernels::cpu
