// SamplingRecipe: how the next token is chosen. Travels with every request and step; the position completes it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace consort::actors {

struct SamplingRecipe {
  float temperature = 0.0F;  // 0 = greedy
  float top_p = 1.0F;        // 1 = off
  float min_p = 0.0F;        // 0 = off
  std::uint32_t top_k = 0;   // 0 = off
  std::uint64_t seed = 0;
  bool operator==(const SamplingRecipe&) const = default;
};

}  // namespace consort::actors
