#include "cli/house/process_list.hpp"

#include <algorithm>

#include "cluster/roles.hpp"
#include "runtime/check.hpp"

namespace consort::cli {

runtime::Outcome<ProcessList> ProcessList::of(const cluster::ClusterConfig& config) {
  ProcessList list;
  for (std::size_t i = 0; i < config.nodes.size(); ++i) {
    const auto& node = config.nodes[i];
    if (node.name == kCoordinatorProcess || node.name == kOperatorProcess || node.name == kGatewayProcess ||
        node.name.starts_with("agent-")) {
      return runtime::failure(runtime::ErrorKind::kInvalid,
                              config.path + ": a node cannot be named '" + node.name +
                                  "': coordinator, operator, gateway and agent-... are names of other processes");
    }
    list.workers.push_back({node.name, cluster::ClusterConfig::node_id(i), node.host});
    const bool known = std::ranges::any_of(list.agents, [&](const ProcessPlace& a) { return a.host == node.host; });
    if (known) continue;
    const auto index = static_cast<std::uint32_t>(list.agents.size());
    list.agents.push_back(
        {"agent-" + std::to_string(index), runtime::NodeId{cluster::kFirstAgentNode + index}, node.host});
  }
  list.coordinator = {std::string(kCoordinatorProcess), cluster::kCoordinatorNode,
                      config.nodes.at(config.coordinator_index()).host};
  if (const auto index = config.gateway_index()) {
    list.gateway = ProcessPlace{std::string(kGatewayProcess), cluster::kGatewayNode, config.nodes[*index].host};
  }
  return list;
}

const ProcessPlace& ProcessList::agent_of(std::string_view host) const {
  const auto agent = std::ranges::find_if(agents, [&](const ProcessPlace& a) { return a.host == host; });
  CONSORT_CHECK(agent != agents.end(), host);
  return *agent;
}

std::vector<ProcessPlace> ProcessList::all() const {
  std::vector<ProcessPlace> places{coordinator};
  places.insert(places.end(), agents.begin(), agents.end());
  places.insert(places.end(), workers.begin(), workers.end());
  return places;
}

std::vector<ProcessPlace> ProcessList::of_host(std::string_view host) const {
  std::vector<ProcessPlace> places = started();
  std::erase_if(places, [&](const ProcessPlace& place) { return place.host != host; });
  return places;
}

std::vector<ProcessPlace> ProcessList::started() const {
  std::vector<ProcessPlace> places = all();
  if (gateway) places.push_back(*gateway);
  return places;
}

}  // namespace consort::cli
