// Sweep: many runs of one scenario on all cores, with what broke first and how to see it again.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "cli/simulate/scenario.hpp"

namespace consort::tests {

struct SweepRun {
  std::uint64_t seed = 1;
  cli::FaultPlan plan;
};

struct SweepResult {
  std::size_t runs = 0;
  std::size_t failed_runs = 0;
  std::size_t ended_in_words = 0;        // requests
  std::uint64_t events = 0;
  std::vector<std::string> reports;      // of the first failed runs
};

// `fault_free_of(seed)` must be thread-safe.
SweepResult sweep(const cli::Scenario& scenario, const std::vector<SweepRun>& runs,
                  const std::function<const cli::ScenarioRun&(std::uint64_t seed)>& fault_free_of, bool twice);

}  // namespace consort::tests
