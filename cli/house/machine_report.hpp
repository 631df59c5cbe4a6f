// What a machine has for Consort, as findings: good, or what is missing with the command that mends it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "cli/house/elsewhere.hpp"

namespace consort::cli {

struct Finding {
  bool is_good = true;
  std::string subject;
  std::string text;
  std::string mend;  // a command, or what to change; empty where it is good
};

// Of this machine: processor, UCX, shared memory, limits.
std::vector<Finding> examine_machine();
// Of the hosts of a cluster file on this machine: addresses, model, memory.
std::vector<Finding> examine_own_hosts(const ClusterState& state);
// Of another machine: all that its nodes need, asked over ssh.
std::vector<Finding> examine_host(const Elsewhere& elsewhere, const ClusterState& state,
                                  const cluster::HostConfig& host);

}  // namespace consort::cli
