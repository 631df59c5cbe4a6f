// Sweep: many runs of one scenario on all cores, with what broke first and how to see it again.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
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
  std::size_t ended_in_words = 0;  // requests
  std::uint64_t events = 0;
  std::vector<std::string> reports;  // of the first failed runs
};

inline constexpr std::size_t kMaxReports = 12;

inline thread_local std::string running;  // the command that repeats the run of this thread

// A failed CONSORT_CHECK ends the test program; at least say in which run.
inline void say_run(int signal) {
  std::fprintf(stderr, "checker \"check\": a process aborted; to see it: %s\n", running.c_str());
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

// `fault_free_of(seed)` must be thread-safe. `twice`: each run is made again and must have the same trace hash.
inline SweepResult sweep(const cli::Scenario& scenario, const std::vector<SweepRun>& runs,
                         const std::function<const cli::ScenarioRun&(std::uint64_t seed)>& fault_free_of, bool twice) {
  SweepResult result;
  std::mutex mutex;
  std::atomic<std::size_t> next = 0;
  const auto before = std::signal(SIGABRT, say_run);
  const auto work = [&] {
    for (std::size_t i = next++; i < runs.size(); i = next++) {
      const SweepRun& one = runs[i];
      running = scenario.command(one.seed, one.plan);
      const cli::ScenarioRun run = scenario.run(one.seed, one.plan, &fault_free_of(one.seed));
      std::vector<cli::Violation> violations = run.violations;
      if (twice) {
        const cli::ScenarioRun again = scenario.run(one.seed, one.plan, &fault_free_of(one.seed));
        if (again.trace_hash != run.trace_hash)
          violations.push_back({"trace hash", run.all_events, "two runs of a seed differ"});
      }
      const std::lock_guard lock(mutex);
      ++result.runs;
      result.events += run.all_events;
      for (const auto& generation : run.generations) {
        result.ended_in_words += generation.end && generation.end->reason != actors::EndReason::kLength ? 1 : 0;
      }
      if (violations.empty()) continue;
      ++result.failed_runs;
      if (result.reports.size() < kMaxReports)
        result.reports.push_back(scenario.report(one.seed, one.plan, violations.front()));
    }
  };
  const auto cores = std::clamp(std::thread::hardware_concurrency(), 1u, 8u);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < cores; ++i) threads.emplace_back(work);
  for (auto& thread : threads) thread.join();
  std::signal(SIGABRT, before);
  return result;
}

}  // namespace consort::tests
