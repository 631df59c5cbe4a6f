// Agents: the agents of a cluster as `up` and `down` see them, on this machine by their pids, on others by the
// connection to them and over ssh. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "cli/house/client.hpp"
#include "cli/house/elsewhere.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

class Agents {
 public:
  Agents(const ClusterState& state, const Elsewhere& elsewhere, Client& client);

  // While the cluster starts: an agent that has ended is an error in words.
  runtime::Status check_start();
  // Later: says on standard error whose connection was lost for some seconds, and whose is back.
  void say_changes();
  // Where another machine is not reached, its agent counts as alive: nobody knows better.
  bool any_lives();
  std::string logs() const;  // last lines of every process
  // Asks them to end, waits, kills what is left. What is not reached is told on standard error. Was there any?
  bool take_down();

 private:
  struct Far {
    std::chrono::steady_clock::time_point heard_at;
    bool is_lost = false;
  };
  bool hears(const ProcessPlace& agent);
  bool lives_here(const ProcessPlace& agent) const;

  const ClusterState& state_;
  const Elsewhere& elsewhere_;
  Client& client_;
  std::map<std::string, Far> far_;  // by host
};

}  // namespace consort::cli
