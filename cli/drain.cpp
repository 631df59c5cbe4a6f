// `consort drain`: a node leaves the cluster in order.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>

#include "cli/commands.hpp"
#include "cli/house/client.hpp"
#include "cluster/roles.hpp"

namespace consort::cli {

namespace {

constexpr auto kDrainDeadline = std::chrono::seconds(10);  // a plan for the others, and a synced log

}  // namespace

int run_drain(const DrainOptions& options) {
  const auto state = ClusterState::of_file(options.cluster_file);
  if (!state.ok()) return wrong_use(state.error().text);
  const auto& nodes = state->config.nodes;
  const auto found = std::ranges::find(nodes, options.node, &cluster::NodeConfig::name);
  if (found == nodes.end()) return wrong_use("there is no node '" + options.node + "' in " + options.cluster_file);
  const auto client = Client::open(*state);
  if (!client.ok()) return job_failed(client.error().text);
  const runtime::RefTo<cluster::CoordinatorProtocol> coordinator{
      {cluster::kCoordinatorNode, {}, cluster::actor_id(cluster::Role::kCoordinator)}};
  const auto node = cluster::ClusterConfig::node_id(static_cast<std::size_t>(found - nodes.begin()));
  const auto left = (*client)->ask(coordinator, cluster::LeaveCluster{{}, node}, kDrainDeadline);
  if (!left.ok()) return job_failed(left.error().text);
  std::printf("%s has left: its parts are at the others, or on their way there\n", options.node.c_str());
  return kExitOk;
}

}  // namespace consort::cli
