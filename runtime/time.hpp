// Instants and durations of the node's monotonic clock. Wall time is for logs and the API only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

namespace consort::runtime {

using Duration = std::chrono::nanoseconds;

// The clock that Env answers for; it has no now() of its own, so that nobody reads time past Env.
struct MonotonicClock {
  using duration = Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<MonotonicClock, duration>;
  static constexpr bool is_steady = true;
};
using Instant = MonotonicClock::time_point;

}  // namespace consort::runtime
