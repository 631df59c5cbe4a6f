#include "cli/agents.hpp"

#include <algorithm>
#include <cstdio>

#include "cli/house/child_process.hpp"

namespace consort::cli {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Status;

namespace {

constexpr auto kPollEvery = std::chrono::milliseconds(100);
constexpr auto kShutdownDeadline = std::chrono::seconds(5);
// Without a connection to another machine's agent: ZeroMQ makes it anew in less, where there is somebody.
constexpr auto kFarPatience = std::chrono::seconds(5);

std::chrono::steady_clock::time_point now() { return std::chrono::steady_clock::now(); }

void say(const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); }

}  // namespace

Agents::Agents(const ClusterState& state, const Elsewhere& elsewhere, Client& client)
    : state_(state), elsewhere_(elsewhere), client_(client) {
  for (const auto& host : elsewhere_.hosts()) far_[host.address] = {now(), false};
}

bool Agents::lives_here(const ProcessPlace& agent) const {
  const auto pid = state_.folder.living_process(agent.name);
  return pid && is_running(*pid);
}

bool Agents::hears(const ProcessPlace& agent) {
  const bool heard = client_.hears(agent.node);
  if (heard) far_[agent.host].heard_at = now();
  return heard;
}

Status Agents::check_start() {
  for (const auto& agent : state_.processes.agents) {
    if (!elsewhere_.is_elsewhere(agent)) {
      if (!state_.folder.living_process(agent.name)) return failure(ErrorKind::kInternal, agent.name + " ended");
      continue;
    }
    Far& far = far_[agent.host];
    if (hears(agent) || now() - far.heard_at < kFarPatience) continue;
    CONSORT_TRY(const HostSeen seen, elsewhere_.look(*state_.config.find_host(agent.host)));
    if (std::ranges::find(seen.alive, agent.name) == seen.alive.end()) {
      return failure(ErrorKind::kInternal, agent.name + " on " + agent.host + " ended");
    }
    if (!far.is_lost) {
      say("  " + agent.name + " lives on " + agent.host +
          " and is not heard: is there a firewall between it and this machine?");
    }
    far = {now(), true};
  }
  return runtime::done();
}

void Agents::say_changes() {
  for (const auto& agent : state_.processes.agents) {
    if (!elsewhere_.is_elsewhere(agent)) continue;
    Far& far = far_[agent.host];
    const bool heard = hears(agent);
    if (heard && far.is_lost) say(agent.name + " on " + agent.host + " is heard again");
    if (heard) far.is_lost = false;
    if (heard || far.is_lost || now() - far.heard_at < kFarPatience) continue;
    far.is_lost = true;
    const auto seen = elsewhere_.look(*state_.config.find_host(agent.host));
    const bool lives = seen.ok() && std::ranges::find(seen->alive, agent.name) != seen->alive.end();
    say(agent.name + " on " + agent.host +
        (!seen.ok() ? " is not heard: " + seen.error().text
         : lives    ? " lives and is not heard: the network between is broken"
                    : " has ended, and nobody starts its nodes again: `consort down`, then `consort up`"));
  }
}

bool Agents::any_lives() {
  for (const auto& agent : state_.processes.agents) {
    if (!elsewhere_.is_elsewhere(agent) ? lives_here(agent) : hears(agent)) return true;
  }
  for (const auto& host : elsewhere_.hosts()) {
    if (now() - far_[host.address].heard_at < kFarPatience) return true;
    const auto seen = elsewhere_.look(host);
    if (!seen.ok() || !seen->alive.empty()) return true;
  }
  return false;
}

std::string Agents::logs() const {
  std::string text;
  for (const auto& process : state_.processes.started()) {
    if (!elsewhere_.is_elsewhere(process)) text += log_tail(state_, process.name);
  }
  for (const auto& host : elsewhere_.hosts()) {
    const auto seen = elsewhere_.look(host);
    text += "=== " + host.ssh + "\n" + (seen.ok() ? seen->logs : seen.error().text + "\n");
  }
  return text;
}

bool Agents::take_down() {
  bool any = false;
  for (const auto& agent : state_.processes.agents) {
    const runtime::RefTo<cluster::NodeAgentProtocol> ref{
        {agent.node, {}, cluster::actor_id(cluster::Role::kNodeAgent)}};
    // Where it does not answer, it is killed below.
    any = client_.ask(ref, cluster::Shutdown{}, kShutdownDeadline).ok() || any;
  }
  const auto some_live = [&] {
    return std::ranges::any_of(state_.processes.agents, [&](const ProcessPlace& agent) {
      return elsewhere_.is_elsewhere(agent) ? client_.hears(agent.node) : lives_here(agent);
    });
  };
  const auto deadline = now() + kShutdownDeadline;
  while (some_live() && now() < deadline) client_.turn_until([] { return false; }, kPollEvery);
  kill_leftovers(state_);
  for (const auto& trouble : elsewhere_.end(&any)) say(trouble + " (what runs there is left)");
  return any;
}

}  // namespace consort::cli
