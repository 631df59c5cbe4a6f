// `consort up` and `consort down`: start the agents of this host, wait until a real token has crossed every node; end
// them. SPDX-License-Identifier: Apache-2.0
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <map>

#include "cli/cluster_table.hpp"
#include "cli/commands.hpp"
#include "cli/house/child_process.hpp"
#include "cli/house/client.hpp"
#include "cli/house/control_plane.hpp"
#include "cli/local_run.hpp"
#include "model/checkpoint.hpp"

namespace consort::cli {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

namespace {

constexpr auto kPollEvery = std::chrono::milliseconds(100);
constexpr auto kStatusDeadline = std::chrono::seconds(2);
constexpr auto kShutdownDeadline = std::chrono::seconds(5);
constexpr auto kWarmUpDeadline = std::chrono::seconds(60);
constexpr auto kGatewayPatience = std::chrono::seconds(5);  // without its process: an agent starts it again much sooner

volatile std::sig_atomic_t stop_asked = 0;

void on_stop_signal(int) { stop_asked = 1; }

Outcome<UpChoices> choices_of(const UpOptions& options, const ClusterState& state) {
  UpChoices choices{std::filesystem::absolute(options.cluster_file).string(), options.no_restart, options.insecure, ""};
  const auto checkpoint = model::Checkpoint::open(state.config.model);
  if (!checkpoint.ok()) return checkpoint.error();
  if (!options.numeric_plan_file.empty()) {
    CONSORT_TRY(const model::NumericPlan plan, read_numeric_plan(options.numeric_plan_file));
    CONSORT_RETURN_IF_ERROR(model::check_plan((*checkpoint)->config(), plan));
    choices.numeric_plan = model::to_json(plan);
  }
  return choices;
}

// What an earlier `up` left of it would be taken for the new one's.
void forget_gateway(const ClusterState& state) {
  std::filesystem::remove(state.folder.address_file(kGatewayProcess));
  std::filesystem::remove(state.folder.pid_file(kGatewayProcess));
}

Status start_agents(const ClusterState& state) {
  for (const auto& agent : state.processes.agents) {
    CONSORT_TRY(const int pid, start_detached({"agent-process", "--state", state.folder.path(), "--name", agent.name},
                                              state.folder.log_file(agent.name)));
    CONSORT_RETURN_IF_ERROR(StateFolder::write(state.folder.pid_file(agent.name), std::to_string(pid) + "\n"));
  }
  return runtime::done();
}

// Says what changed since the last look.
class ProgressLines {
 public:
  void look(const cluster::ClusterView& view) {
    for (const auto& member : view.members) {
      auto& last = states_[member.name];
      if (last == member.state) continue;
      last = member.state;
      std::fprintf(stderr, "  %-12s %s\n", member.name.c_str(), std::string(cluster::name(member.state)).c_str());
    }
  }

 private:
  std::map<std::string, cluster::NodeState> states_;
};

bool all_ready(const cluster::ClusterView& view) {
  for (const auto& member : view.members) {
    if (member.state != cluster::NodeState::kReady) return false;
  }
  return !view.members.empty();
}

std::string logs_of(const ClusterState& state) {
  std::string text;
  for (const auto& process : state.processes.started()) text += log_tail(state, process.name);
  return text;
}

// Until every node is ready and one token has crossed them all.
Status wait_ready(const ClusterState& state, Client& client, std::chrono::steady_clock::time_point deadline) {
  ProgressLines lines;
  std::string last_trouble = "the coordinator does not answer";
  while (stop_asked == 0 && std::chrono::steady_clock::now() < deadline) {
    for (const auto& agent : state.processes.agents) {
      if (!state.folder.living_process(agent.name)) return failure(ErrorKind::kInternal, agent.name + " ended");
    }
    const auto report = client.ask(
        runtime::RefTo<cluster::CoordinatorProtocol>{
            {state.processes.coordinator.node, {}, cluster::actor_id(cluster::Role::kCoordinator)}},
        cluster::ClusterStatus{}, kStatusDeadline);
    if (report.ok()) {
      lines.look(*report->view);
      last_trouble = report->trouble;
      if (report->needs_operator) return failure(ErrorKind::kInvalid, "the cluster cannot start: " + report->trouble);
      if (all_ready(*report->view)) {
        CONSORT_TRY(const auto batcher, client.batcher(*report->view));
        const auto warm = client.ask(batcher, actors::WarmUp{}, kWarmUpDeadline);
        if (warm.ok()) return runtime::done();
        last_trouble = warm.error().text;
      }
    }
    client.turn_until([] { return stop_asked != 0; }, kPollEvery);
  }
  if (stop_asked != 0) return failure(ErrorKind::kCancelled, "interrupted");
  return failure(ErrorKind::kTimedOut,
                 "the cluster is not ready in time" + (last_trouble.empty() ? std::string() : ": " + last_trouble));
}

// Until the HTTP service would serve a request, where there is one.
Status wait_gateway(const ClusterState& state, Client& client, std::chrono::steady_clock::time_point deadline) {
  if (!state.processes.gateway) return runtime::done();
  const std::string address_file = state.folder.address_file(kGatewayProcess);
  auto last_alive = std::chrono::steady_clock::now();
  while (stop_asked == 0 && std::chrono::steady_clock::now() < deadline) {
    if (state.folder.living_process(kGatewayProcess)) last_alive = std::chrono::steady_clock::now();
    if (const auto url = StateFolder::read_if_there(address_file)) {
      std::fprintf(stderr, "  %-12s %s/v1\n", "gateway", url->substr(0, url->find('\n')).c_str());
      return runtime::done();
    }
    if (std::chrono::steady_clock::now() - last_alive > kGatewayPatience) {
      return failure(ErrorKind::kInvalid, "the gateway does not start");
    }
    client.turn_until([] { return stop_asked != 0; }, kPollEvery);
  }
  if (stop_asked != 0) return failure(ErrorKind::kCancelled, "interrupted");
  return failure(ErrorKind::kTimedOut, "the gateway does not serve in time");
}

bool an_agent_lives(const ClusterState& state) {
  for (const auto& agent : state.processes.agents) {
    const auto pid = state.folder.living_process(agent.name);
    if (pid && is_running(*pid)) return true;
  }
  return false;
}

void take_down(const ClusterState& state, Client& client) {
  for (const auto& agent : state.processes.agents) {
    const runtime::RefTo<cluster::NodeAgentProtocol> ref{
        {agent.node, {}, cluster::actor_id(cluster::Role::kNodeAgent)}};
    (void)client.ask(ref, cluster::Shutdown{}, kShutdownDeadline);  // where it does not answer, it is killed below
  }
  const auto deadline = std::chrono::steady_clock::now() + kShutdownDeadline;
  while (an_agent_lives(state) && std::chrono::steady_clock::now() < deadline) {
    client.turn_until([] { return false; }, kPollEvery);
  }
  kill_leftovers(state);
}

}  // namespace

int run_up(const UpOptions& options) {
  const auto state = ClusterState::of_file(options.cluster_file);
  if (!state.ok()) return wrong_use(state.error().text);
  for (const auto& process : state->processes.started()) {
    if (state->folder.living_process(process.name)) {
      return wrong_use("cluster '" + state->config.name + "' is up already (" + process.name +
                       " lives): `consort down` ends it");
    }
  }
  if (const auto checked = cluster::check_exposure(state->config); !checked.ok() && !options.insecure) {
    return wrong_use(checked.error().text);
  }
  const auto choices = choices_of(options, *state);
  if (!choices.ok()) return wrong_use(choices.error().text);
  Status prepared = state->folder.create();
  if (prepared.ok()) prepared = state->keep(*choices);
  if (prepared.ok()) prepared = prepare_control_plane(*state);
  if (prepared.ok()) forget_gateway(*state);
  if (prepared.ok()) prepared = start_agents(*state);
  if (!prepared.ok()) return job_failed(prepared.error().text);
  std::signal(SIGINT, on_stop_signal);
  std::signal(SIGTERM, on_stop_signal);
  const auto client = Client::open(*state);
  if (!client.ok()) {
    kill_leftovers(*state);
    return job_failed(client.error().text);
  }
  const auto deadline = std::chrono::steady_clock::now() + options.ready_deadline;
  Status ready = wait_ready(*state, **client, deadline);
  if (ready.ok()) ready = wait_gateway(*state, **client, deadline);
  if (!ready.ok()) {
    const std::string logs = logs_of(*state);
    take_down(*state, **client);
    return job_failed(ready.error().text + "\n" + logs);
  }
  std::fprintf(stderr, "cluster '%s' is ready: a token has crossed every node\n", state->config.name.c_str());
  if (options.detach) return kExitOk;
  std::fprintf(stderr, "Ctrl-C takes it down\n");
  while (stop_asked == 0) {
    (*client)->turn_until([] { return stop_asked != 0; }, std::chrono::seconds(1));
    if (stop_asked == 0 && !an_agent_lives(*state)) {
      kill_leftovers(*state);
      std::fprintf(stderr, "cluster '%s' was taken down from elsewhere\n", state->config.name.c_str());
      return kExitOk;
    }
  }
  take_down(*state, **client);
  return kExitOk;
}

int run_down(const DownOptions& options) {
  const auto state = ClusterState::of_file(options.cluster_file);
  if (!state.ok()) return wrong_use(state.error().text);
  bool any = false;
  for (const auto& process : state->processes.started())
    any = any || state->folder.living_process(process.name).has_value();
  if (!any) {
    std::fprintf(stderr, "cluster '%s' is not up\n", state->config.name.c_str());
    return kExitOk;
  }
  const auto client = Client::open(*state);
  if (client.ok()) {
    take_down(*state, **client);
  } else {
    kill_leftovers(*state);
  }
  std::fprintf(stderr, "cluster '%s' is down\n", state->config.name.c_str());
  return kExitOk;
}

}  // namespace consort::cli
