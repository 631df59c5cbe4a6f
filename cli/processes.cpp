// The hidden commands that `up` and the agents start: find the state, enter the log, run.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <iostream>
#include <iterator>

#include "cli/commands.hpp"
#include "cli/house/child_process.hpp"
#include "cli/house/host_work.hpp"
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

namespace {

template <class Order, class Work>
int answer_order(Work work) {
  // Whoever asks from another machine sends all of it at once, and closes.
  const std::string text{std::istreambuf_iterator<char>(std::cin), {}};
  const auto order = from_json<Order>(text);
  if (!order.ok()) return wrong_use(order.error().text);
  const auto answer = work(*order);
  if (!answer.ok()) return job_failed(answer.error().text);
  std::fputs(to_json(*answer).c_str(), stdout);
  return kExitOk;
}

}  // namespace

int run_host_report() {
  return answer_order<HostQuestion>([](const auto& question) { return runtime::Outcome(report_host(question)); });
}
int run_host_start() { return answer_order<HostStart>(start_host); }
int run_host_look() {
  return answer_order<HostLook>([](const auto& order) { return look_at_host(order, false); });
}
int run_host_end() {
  return answer_order<HostLook>([](const auto& order) { return look_at_host(order, true); });
}

}  // namespace consort::cli
