// Scenario: requests on a simulated cluster, once without faults and then under fault plans, with every checker on.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/simulate/checkers.hpp"
#include "cli/simulate/fault_plan.hpp"
#include "cli/simulate/sim_cluster.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

struct ScenarioRun {
  std::vector<Violation> violations;
  TokensByRequest tokens;
  std::vector<SimGeneration> generations;  // the last one was started when the cluster was restored
  std::uint64_t trace_hash = 0;
  std::uint64_t first_event = 0;                         // of the world; the plan's events count from here
  std::uint64_t events = 0;                              // until all requests had ended, from first_event
  std::uint64_t all_events = 0;                          // the world's, all in all
  std::vector<std::vector<std::uint64_t>> token_events;  // of each request: from first_event, when its tokens came
};

class Scenario {
 public:
  // `options.seed` is replaced by each run's. The model's trunk and the reference are shared by all runs.
  Scenario(SimClusterOptions options, SimModel model, std::vector<actors::GenerationRequest> requests);

  // Brings a cluster up, lays the plan, starts the requests, waits for their ends and until the cluster is restored,
  // and has the first request answered once more. Thread-safe. `watch` sees the cluster before anything happens.
  using Watch = std::function<void(SimCluster&)>;
  ScenarioRun run(std::uint64_t seed, const FaultPlan& plan, const ScenarioRun* fault_free,
                  const Watch& watch = {}) const;

  const cluster::ClusterConfig& config() const { return options_.config; }
  const ProcessList& processes() const { return processes_; }
  // The command that repeats a run, and what went wrong in it.
  std::string report(std::uint64_t seed, const FaultPlan& plan, const Violation& violation) const;
  std::string command(std::uint64_t seed, const FaultPlan& plan) const;

 private:
  const SimClusterOptions options_;
  const SimModel model_;
  const std::vector<actors::GenerationRequest> requests_;
  const ProcessList processes_;
  const std::shared_ptr<PartReference> reference_;
};

}  // namespace consort::cli
