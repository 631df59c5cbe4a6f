// `consort trace`: switches tracing on, waits, and writes what all nodes recorded as one Chrome trace.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <vector>

#include "cli/commands.hpp"
#include "cli/house/client.hpp"
#include "cluster/roles.hpp"

namespace consort::cli {
namespace {

constexpr auto kStatusDeadline = std::chrono::seconds(5);
constexpr auto kNodeDeadline = std::chrono::seconds(5);

runtime::RefTo<cluster::MembershipProtocol> membership_of(runtime::NodeId node) {
  return {{node, {}, cluster::actor_id(cluster::Role::kMembership)}};
}

}  // namespace

int run_trace(const TraceOptions& options) {
  const auto state = ClusterState::of_file(options.cluster_file);
  if (!state.ok()) return wrong_use(state.error().text);
  const auto client = Client::open(*state);
  if (!client.ok()) return job_failed(client.error().text);
  const auto report = (*client)->status(kStatusDeadline);
  if (!report.ok()) return job_failed(report.error().text);
  std::vector<runtime::NodeId> nodes;
  for (const auto& member : report->view->members) {
    if (member.state == cluster::NodeState::kAbsent) continue;
    if ((*client)->ask(membership_of(member.node), cluster::EnableTrace{{}, true}, kNodeDeadline).ok()) {
      nodes.push_back(member.node);
    } else {
      std::fprintf(stderr, "%s does not answer: it is left out\n", member.name.c_str());
    }
  }
  std::printf("recording %zu nodes\n", nodes.size());
  std::fflush(stdout);
  (*client)->turn_until([] { return false; }, options.duration);
  std::vector<cluster::NodeTraceEvents> parts;
  for (const auto node : nodes) {
    const runtime::Instant asked = (*client)->now();
    auto events = (*client)->ask(membership_of(node), cluster::CollectTrace{}, kNodeDeadline);
    if (!events.ok()) {
      std::fprintf(stderr, "node %u: %s\n", node.value, events.error().text.c_str());
      continue;
    }
    // The node's clock when it answered stands for the middle of the round trip.
    const runtime::Instant middle = asked + ((*client)->now() - asked) / 2;
    events->now_ns = (middle.time_since_epoch().count() - events->now_ns);
    parts.push_back(std::move(events).value());
    (void)(*client)->ask(membership_of(node), cluster::EnableTrace{{}, false}, kNodeDeadline);
  }
  std::vector<runtime::NodeTrace> traces;
  for (const auto& part : parts) traces.push_back(cluster::unpack_trace(part, runtime::Duration(part.now_ns)));
  const auto written = StateFolder::write(options.out, runtime::chrome_trace_json(traces));
  return written.ok() ? kExitOk : job_failed(written.error().text);
}

}  // namespace consort::cli
