// The cluster's control plane on this host: keys and addresses that `up` makes once, and each process' own link.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cli/house/cluster_state.hpp"
#include "runtime/env.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

// Ports of an address of this machine that nobody uses now. Another program may take one before our process binds it;
// that process then says so.
runtime::Outcome<std::vector<int>> free_ports(const std::string& host, std::size_t count);

// Host -> a free port for each of its processes. Of the hosts that are other machines.
using PortsByHost = std::map<std::string, std::vector<int>>;

// A key pair per process and for the operator, the list of keys that may speak, an address per process. Keys are made
// on the first `up` and kept; addresses are new each time.
runtime::Status prepare_control_plane(const ClusterState& state, PortsByHost ports_elsewhere = {});

// Where a process listens, as `up` wrote it.
runtime::Outcome<runtime::LinkAddress> control_address(const ClusterState& state, const std::string& process);

// A link, the source that turns it (the same object), and how it learns the incarnation that its process was given.
struct ControlLink {
  std::shared_ptr<runtime::Link> link;
  runtime::EventSource* source = nullptr;
  std::function<void(runtime::Incarnation)> set_incarnation;
};
// Of a process of the cluster: bound where its address file says.
runtime::Outcome<ControlLink> open_control_link(const ClusterState& state, const ProcessPlace& process);
// Of a client, the operator or the Gateway: its key, a node id drawn anew.
runtime::Outcome<ControlLink> open_client_link(const ClusterState& state, std::string_view process,
                                               runtime::NodeId client);

}  // namespace consort::cli
