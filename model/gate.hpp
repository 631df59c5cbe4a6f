// The gate: which experts a row goes to, and with what weight. DeepSeek-V3 (arXiv:2412.19437) section 2.1.2.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/config.hpp"
#include "runtime/tensor_view.hpp"

namespace consort::model {

// One row's experts ascend, so that reading in order is combining in order.
struct Routes {
  std::int64_t tokens = 0;
  std::int64_t top_k = 0;
  std::vector<std::uint32_t> experts;  // [tokens, top_k]
  std::vector<float> weights;          // [tokens, top_k]

  std::size_t at(std::int64_t token, std::int64_t k) const { return static_cast<std::size_t>(token * top_k + k); }
};

// Chooses for each row of `logits` [tokens, n_routed_experts] F32, overwriting them with the scores.
//   bias [n_routed_experts] takes part in choosing only (noaux_tc; empty for the softmax gates).
// noaux_tc: sigmoid scores; groups ranked by the sum of their two best biased scores; softmax gates: groups
// ranked by their best score. Experts outside the topk_group best groups can never be chosen. Ties go to the
// lower index.
void choose_experts(Routes& routes, const ModelConfig& config, runtime::TensorView logits, std::span<const float> bias);

// One row that one expert is to compute: row `token` of the pass, its k-th choice.
struct Assignment {
  std::uint32_t expert = 0;
  std::uint32_t token = 0;
  std::uint32_t k = 0;
};
// The assignments of all rows, by expert, then token. `alive` [tokens] leaves rows out where it is zero;
// empty = all.
std::vector<Assignment> by_expert(const Routes& routes, std::span<const std::uint8_t> alive = {});

}  // namespace consort::model
