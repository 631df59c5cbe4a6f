#include "actors/serving/step_plan.hpp"

#include <algorithm>

namespace consort::actors {

std::vector<PlannedRows> plan_step(std::span<const StepCandidate> candidates, std::uint32_t chunk_tokens,
                                   std::size_t max_sequences) {
  std::vector<std::uint32_t> rows(candidates.size(), 0);
  std::size_t sequences = 0;
  for (std::size_t i = 0; i < candidates.size() && sequences < max_sequences; ++i) {
    if (candidates[i].token_count - candidates[i].kv_length != 1) continue;
    rows[i] = 1;
    ++sequences;
  }
  std::uint32_t left = chunk_tokens;
  for (std::size_t i = 0; i < candidates.size() && sequences < max_sequences && left > 0; ++i) {
    const std::uint32_t wanted = candidates[i].token_count - candidates[i].kv_length;
    if (wanted <= 1) continue;
    rows[i] = std::min(wanted, left);
    left -= rows[i];
    ++sequences;
  }
  std::vector<PlannedRows> plan;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i] > 0) plan.push_back({i, rows[i]});
  }
  return plan;
}

}  // namespace consort::actors
