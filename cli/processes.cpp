// The hidden commands that `up` and the agents start: find the state, enter the log, run.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "cli/commands.hpp"
#include "cli/house/child_process.hpp"
#include "cli/house/real_process.hpp"

namespace consort::cli {
namespace {

template <class Run>
int run_process(const ProcessOptions& options, const std::string& process, Run run) {
  const auto state = ClusterState::of_folder(options.state_dir);
  if (!state.ok()) return wrong_use(state.error().text);
  const auto entered = enter_process(*state, process);
  if (!entered.ok()) return wrong_use(entered.error().text);
  const auto ended = run(*state);
  return ended.ok() ? kExitOk : wrong_use(ended.error().text);
}

}  // namespace

int run_agent_process(const ProcessOptions& options) {
  return run_process(options, options.name, [&](const ClusterState& state) { return run_agent(state, options.name); });
}

int run_coordinator_process(const ProcessOptions& options) {
  return run_process(options, std::string(kCoordinatorProcess), run_coordinator);
}

int run_worker_process(const ProcessOptions& options) {
  return run_process(options, options.name, [&](const ClusterState& state) { return run_worker(state, options.name); });
}

}  // namespace consort::cli
