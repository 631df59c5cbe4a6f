// Starts processes of this program that outlive the command (the agents), and ends what a cluster has left behind.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "cli/house/cluster_state.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

// Starts this program with the arguments in a session of its own; output goes to `log_file`.
runtime::Outcome<int> start_detached(const std::vector<std::string>& arguments, const std::string& log_file);
bool is_running(int pid);
// An agent of this host, detached, with its pid file.
runtime::Outcome<int> start_agent(const ClusterState& state, const std::string& agent);
// What an earlier `up` left of the Gateway would be taken for the new one's.
void forget_gateway(const StateFolder& folder);

// Kills every process whose pid file says that it lives, agents first, so that nothing is started again; waits for
// them.
void kill_leftovers(const ClusterState& state);

// At the start of every process of a cluster: standard output and error to its log, its pid into its pid file.
runtime::Status enter_process(const ClusterState& state, const std::string& process);

// The last lines of a process' log, for an error message.
std::string log_tail(const ClusterState& state, const std::string& process);

}  // namespace consort::cli
