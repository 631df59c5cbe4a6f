// ModelConfig: a DeepSeek-V2 or V3 architecture, read strictly from a checkpoint's config.json.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/outcome.hpp"

namespace consort::model {

enum class Family : std::uint8_t { kDeepseekV2, kDeepseekV3 };
enum class TopkMethod : std::uint8_t { kNoauxTc, kGreedy, kGroupLimitedGreedy };

// YaRN (arXiv:2309.00071) as DeepSeek uses it.
struct RopeScaling {
  double factor = 1.0;
  double original_max_position_embeddings = 0.0;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double mscale = 0.0;          // 0 = not given
  double mscale_all_dim = 0.0;  // 0 = not given
  std::optional<double> attention_factor;
};

// Fields keep the checkpoint's names.
struct ModelConfig {
  Family family = Family::kDeepseekV3;
  std::string model_type;  // "deepseek_v3", "kimi_k2", "deepseek_v2"
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;      // width of a dense layer's FFN
  std::int64_t moe_intermediate_size = 0;  // width of one routed expert
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t q_lora_rank = 0;  // 0 = one q_proj instead of q_a_proj, q_a_layernorm, q_b_proj
  std::int64_t kv_lora_rank = 0;
  std::int64_t qk_nope_head_dim = 0;
  std::int64_t qk_rope_head_dim = 0;
  std::int64_t v_head_dim = 0;
  std::int64_t n_routed_experts = 0;
  std::int64_t n_shared_experts = 0;  // the shared experts are one FFN of this many times moe_intermediate_size
  std::int64_t num_experts_per_tok = 0;
  std::int64_t n_group = 1;
  std::int64_t topk_group = 1;
  std::int64_t first_k_dense_replace = 0;
  TopkMethod topk_method = TopkMethod::kNoauxTc;
  bool norm_topk_prob = false;
  double routed_scaling_factor = 1.0;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  std::optional<RopeScaling> rope_scaling;
  std::int64_t max_position_embeddings = 0;
  bool tie_word_embeddings = false;
  bool fp8 = false;  // quantization_config: E4M3 weights with 128x128 weight_scale_inv
  std::optional<std::int64_t> bos_token_id;
  std::vector<std::int64_t> eos_token_id;

  std::int64_t qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  std::int64_t latent_width() const { return kv_lora_rank + qk_rope_head_dim; }  // floats per position and layer of KV
  bool is_dense(std::int64_t layer) const { return layer < first_k_dense_replace; }
  bool is_moe(std::int64_t layer) const { return !is_dense(layer); }
};

// Refuses what is missing, of the wrong type, out of range or not supported, naming the key. `where` names
// the file.
runtime::Outcome<ModelConfig> parse_config(std::string_view json, std::string_view where);

}  // namespace consort::model
