// StepPlan: which rows of which requests run in the next step of one Decoder.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace consort::actors {

// A request that may run: how many of its tokens are in KV, and how many it has.
struct StepCandidate {
  std::uint32_t kv_length = 0;
  std::uint32_t token_count = 0;
};
struct PlannedRows {
  std::size_t candidate = 0;
  std::uint32_t row_count = 0;
  bool operator==(const PlannedRows&) const = default;
};

// Every candidate with one row left gets it: a token must not wait for a prompt. What then remains of chunk_tokens goes
// to the prompts, oldest first (candidates come oldest first). At most max_sequences. In order of candidates.
std::vector<PlannedRows> plan_step(std::span<const StepCandidate> candidates, std::uint32_t chunk_tokens,
                                   std::size_t max_sequences);

}  // namespace consort::actors
