// The real processes of a cluster: their Env, their links, their loop. Each returns the exit code when its loop has
// ended. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "cli/house/cluster_state.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

// Errors are of the start: files, keys, addresses, CPU. After that a process runs until it is told to end.
runtime::Status run_worker(const ClusterState& state, const std::string& name);
runtime::Status run_coordinator(const ClusterState& state);
runtime::Status run_agent(const ClusterState& state, const std::string& name);

}  // namespace consort::cli
