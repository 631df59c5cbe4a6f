// Which processes a cluster file stands for: the Coordinator, an agent per host, a worker per node, the operator.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/node_config.hpp"
#include "runtime/ids.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

inline constexpr std::string_view kCoordinatorProcess = "coordinator";
inline constexpr std::string_view kOperatorProcess = "operator";
inline constexpr std::string_view kGatewayProcess = "gateway";

struct ProcessPlace {
  std::string name;  // of its key, address, pid and log files
  runtime::NodeId node;
  std::string host;
};

struct ProcessList {
  ProcessPlace coordinator;
  std::vector<ProcessPlace> agents;     // one per host, in the order in which the file names hosts
  std::vector<ProcessPlace> workers;    // in the order of the file
  std::optional<ProcessPlace> gateway;  // a client to all others: nobody connects to it

  // Refuses node names that other processes have.
  static runtime::Outcome<ProcessList> of(const cluster::ClusterConfig& config);
  const ProcessPlace& agent_of(std::string_view host) const;
  std::vector<ProcessPlace> all() const;  // that others talk to: without the Gateway and the operator
  std::vector<ProcessPlace> of_host(std::string_view host) const;  // of started()
  std::vector<ProcessPlace> started() const;                       // all that `up` starts: with the Gateway
};

}  // namespace consort::cli
