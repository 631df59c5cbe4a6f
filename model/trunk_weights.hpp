// The weights behind a Trunk, layer by layer, as the kernels see them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <vector>

#include "model/weight_loader.hpp"

namespace consort::model {

struct AttentionWeights {
  std::optional<OwnedWeight> q_a;  // absent where q_lora_rank is null
  std::vector<float> q_a_norm;
  OwnedWeight q;     // q_b_proj or q_proj: [heads * qk_head_dim, q_lora_rank or hidden]
  OwnedWeight kv_a;  // [kv_lora_rank + qk_rope_head_dim, hidden]
  std::vector<float> kv_a_norm;
  OwnedWeight o;  // [hidden, heads * v_head_dim]
  // kv_b_proj, taken apart by head. The key half is stored transposed, in the checkpoint's dtype.
  OwnedWeight kv_b_memory_key, kv_b_memory_value;
  std::vector<kernels::WeightMatrix> key_transposed;  // per head [kv_lora_rank, qk_nope_head_dim]
  std::vector<kernels::WeightMatrix> value;           // per head [v_head_dim, kv_lora_rank]
};

struct LayerWeights {
  std::vector<float> input_norm, ffn_norm;
  AttentionWeights attention;
  std::optional<FfnWeights> dense;   // dense layers
  std::optional<OwnedWeight> gate;   // MoE layers: [n_routed_experts, hidden]
  std::vector<float> gate_bias;      // e_score_correction_bias; empty for the softmax gates
  std::optional<FfnWeights> shared;  // MoE layers with n_shared_experts > 0
};

struct TrunkWeights {
  std::optional<OwnedWeight> embed;  // [vocab, hidden]
  std::vector<LayerWeights> layers;  // of the range
  std::vector<float> norm;
  std::optional<OwnedWeight> lm_head;  // absent where it is tied to embed
  const kernels::WeightMatrix& head() const { return lm_head ? lm_head->matrix : embed->matrix; }
};

}  // namespace consort::model
