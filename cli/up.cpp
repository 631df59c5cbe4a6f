// `consort up` and `consort down`: start the agents of all hosts, wait until a real token has crossed every node; end
// them. SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <map>

#include "cli/agents.hpp"
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
constexpr auto kFarPollEvery = std::chrono::seconds(1);  // over ssh
constexpr auto kStatusDeadline = std::chrono::seconds(2);
constexpr auto kWarmUpDeadline = std::chrono::seconds(60);
constexpr auto kGatewayPatience = std::chrono::seconds(5);  // without its process: an agent starts it again much sooner

volatile std::sig_atomic_t stop_asked = 0;

void on_stop_signal(int) { stop_asked = 1; }

Outcome<UpChoices> choices_of(const UpOptions& options, const ClusterState& state) {
  UpChoices choices{std::filesystem::absolute(options.cluster_file).string(), options.no_restart, options.insecure, "",
                    ""};
  const auto checkpoint = model::Checkpoint::open(state.config.model);
  if (!checkpoint.ok()) return checkpoint.error();
  if (!options.numeric_plan_file.empty()) {
    CONSORT_TRY(const model::NumericPlan plan, read_numeric_plan(options.numeric_plan_file));
    CONSORT_RETURN_IF_ERROR(model::check_plan((*checkpoint)->config(), plan));
    choices.numeric_plan = model::to_json(plan);
  }
  return choices;
}

Status start_agents(const ClusterState& state) {
  for (const auto& agent : state.processes.agents) {
    if (!state.config.is_elsewhere(agent.host)) CONSORT_RETURN_IF_ERROR(start_agent(state, agent.name));
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

// Until every node is ready and one token has crossed them all.
Status wait_ready(const ClusterState& state, Client& client, Agents& agents,
                  std::chrono::steady_clock::time_point deadline) {
  ProgressLines lines;
  std::string last_trouble = "the coordinator does not answer";
  while (stop_asked == 0 && std::chrono::steady_clock::now() < deadline) {
    CONSORT_RETURN_IF_ERROR(agents.check_start());
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

// Where the HTTP service is, once it would serve a request; nothing before. Of another machine's it is kept here too.
Outcome<std::optional<std::string>> gateway_url(const ClusterState& state, const Elsewhere& elsewhere) {
  const std::string file = state.folder.address_file(kGatewayProcess);
  if (elsewhere.is_elsewhere(*state.processes.gateway)) {
    CONSORT_TRY(const HostSeen seen, elsewhere.look(*state.config.find_host(state.processes.gateway->host)));
    if (seen.gateway_url.empty()) return std::optional<std::string>();
    CONSORT_RETURN_IF_ERROR(StateFolder::write(file, seen.gateway_url + "\n"));
  }
  auto url = StateFolder::read_if_there(file);
  if (url) url->resize(std::min(url->size(), url->find('\n')));
  return url;
}

// Until the HTTP service would serve a request, where there is one.
Status wait_gateway(const ClusterState& state, const Elsewhere& elsewhere, Client& client,
                    std::chrono::steady_clock::time_point deadline) {
  if (!state.processes.gateway) return runtime::done();
  const bool is_elsewhere = elsewhere.is_elsewhere(*state.processes.gateway);
  auto last_alive = std::chrono::steady_clock::now();
  while (stop_asked == 0 && std::chrono::steady_clock::now() < deadline) {
    if (is_elsewhere || state.folder.living_process(kGatewayProcess)) last_alive = std::chrono::steady_clock::now();
    CONSORT_TRY(const auto url, gateway_url(state, elsewhere));
    if (url) {
      std::fprintf(stderr, "  %-12s %s/v1\n", "gateway", url->c_str());
      return runtime::done();
    }
    if (std::chrono::steady_clock::now() - last_alive > kGatewayPatience) {
      return failure(ErrorKind::kInvalid, "the gateway does not start");
    }
    client.turn_until([] { return stop_asked != 0; }, is_elsewhere ? kFarPollEvery : kPollEvery);
  }
  if (stop_asked != 0) return failure(ErrorKind::kCancelled, "interrupted");
  return failure(ErrorKind::kTimedOut, "the gateway does not serve in time");
}

// What was started before something failed, without a connection to it.
void end_all(const ClusterState& state, const Elsewhere& elsewhere) {
  kill_leftovers(state);
  for (const auto& trouble : elsewhere.end()) std::fprintf(stderr, "%s\n", trouble.c_str());
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
  Elsewhere elsewhere(*state);
  const Status looked = elsewhere.look_around();
  if (!looked.ok()) return wrong_use(looked.error().text);
  Status prepared = state->folder.create();
  if (prepared.ok()) prepared = state->keep(*choices);
  if (prepared.ok()) prepared = prepare_control_plane(*state, elsewhere.ports());
  if (!prepared.ok()) return job_failed(prepared.error().text);
  forget_gateway(state->folder);
  std::signal(SIGINT, on_stop_signal);
  std::signal(SIGTERM, on_stop_signal);
  Status started = start_agents(*state);
  if (started.ok()) started = elsewhere.start(*choices);
  const auto client = started.ok() ? Client::open(*state) : Outcome<std::unique_ptr<Client>>(started.error());
  if (!client.ok()) {
    end_all(*state, elsewhere);
    return job_failed(client.error().text);
  }
  Agents agents(*state, elsewhere, **client);
  const auto deadline = std::chrono::steady_clock::now() + options.ready_deadline;
  Status ready = wait_ready(*state, **client, agents, deadline);
  if (ready.ok()) ready = wait_gateway(*state, elsewhere, **client, deadline);
  if (!ready.ok()) {
    const std::string logs = agents.logs();
    agents.take_down();
    return job_failed(ready.error().text + "\n" + logs);
  }
  std::fprintf(stderr, "cluster '%s' is ready: a token has crossed every node\n", state->config.name.c_str());
  if (options.detach) return kExitOk;
  std::fprintf(stderr, "Ctrl-C takes it down\n");
  while (stop_asked == 0) {
    (*client)->turn_until([] { return stop_asked != 0; }, std::chrono::seconds(1));
    if (stop_asked == 0) agents.say_changes();
    if (stop_asked == 0 && !agents.any_lives()) {
      end_all(*state, elsewhere);
      std::fprintf(stderr, "cluster '%s' was taken down from elsewhere\n", state->config.name.c_str());
      return kExitOk;
    }
  }
  agents.take_down();
  return kExitOk;
}

int run_down(const DownOptions& options) {
  const auto state = ClusterState::of_file(options.cluster_file);
  if (!state.ok()) return wrong_use(state.error().text);
  const Elsewhere elsewhere(*state);
  const auto client = Client::open(*state);
  bool any = false;
  for (const auto& process : state->processes.started()) {
    any = any || state->folder.living_process(process.name).has_value();
  }
  if (client.ok() && (any || !elsewhere.hosts().empty())) {
    any = Agents(*state, elsewhere, **client).take_down() || any;
  } else {
    end_all(*state, elsewhere);
  }
  std::fprintf(stderr, "cluster '%s' is %s\n", state->config.name.c_str(), any ? "down" : "not up");
  return kExitOk;
}

}  // namespace consort::cli
