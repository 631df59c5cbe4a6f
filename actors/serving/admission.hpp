// Admission: may a request join the queue, and if not, when would there be room? Pure.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "runtime/time.hpp"

namespace consort::actors {

// What waits already. A request costs the tokens of its prompt and those that it may generate.
struct QueueLoad {
  std::size_t requests = 0;
  std::uint64_t tokens = 0;
  double tokens_per_second = 0;  // that the cluster gets done, as measured; 0: not known
};
struct QueueLimits {
  std::uint32_t requests = 0;
  std::uint64_t tokens = 0;
};
struct Refused {
  std::string text;
  runtime::Duration come_again;
};

// Nobody is told to come again before or after this.
inline constexpr runtime::Duration kLeastComeAgain = std::chrono::seconds(1);
inline constexpr runtime::Duration kMostComeAgain = std::chrono::seconds(60);

// None: it may join. An empty queue takes any request.
std::optional<Refused> refuse(const QueueLoad& load, const QueueLimits& limits, std::uint64_t cost_tokens);

}  // namespace consort::actors
