// Elsewhere: the hosts of a cluster that are other machines, as `up`, `down` and `doctor` handle them, over ssh.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cli/house/cluster_state.hpp"
#include "cli/house/control_plane.hpp"
#include "cli/house/host_messages.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

class Elsewhere {
 public:
  explicit Elsewhere(const ClusterState& state) : state_(state) {}
  const std::vector<cluster::HostConfig>& hosts() const { return state_.config.hosts; }
  bool is_elsewhere(const ProcessPlace& process) const { return state_.config.is_elsewhere(process.host); }

  // What a machine says of itself.
  runtime::Outcome<HostReport> report(const cluster::HostConfig& host) const;
  // All of them, for `up`: an error in words where one is not reached, or has not what its nodes need.
  runtime::Status look_around();
  // After that: free ports of each.
  PortsByHost ports() const;
  // Brings the config, the addresses and each host's own keys there, and starts its agent.
  runtime::Status start(const UpChoices& choices) const;
  // What lives there.
  runtime::Outcome<HostSeen> look(const cluster::HostConfig& host) const;
  // Kills what is left of the cluster there. The troubles of hosts that are not reached, in words.
  std::vector<std::string> end(bool* found_any = nullptr) const;

 private:
  runtime::Outcome<HostSeen> look_or_end(const cluster::HostConfig& host, const char* command) const;

  const ClusterState& state_;
  std::map<std::string, HostReport> reports_;  // by address
};

// Why a machine with this report cannot run this build's nodes; empty: it can.
std::string build_trouble(const HostReport& report, const HostReport& here);

}  // namespace consort::cli
