// The Coordinator's and the agents' processes, built by constructor on any Env, as worker.hpp builds workers.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "cli/house/process_list.hpp"
#include "cluster/coordinator.hpp"
#include "cluster/node_agent.hpp"
#include "cluster/post_office.hpp"
#include "model/checkpoint.hpp"
#include "runtime/event_loop.hpp"

namespace consort::cli {

// What the Coordinator of this config and model is built with.
cluster::CoordinatorOptions coordinator_options(const cluster::ClusterConfig& config,
                                                const std::shared_ptr<const model::Checkpoint>& checkpoint,
                                                std::string log_path, std::optional<cluster::NumericPlan> numeric_plan);

// An actor alone in its process: the Coordinator, an agent. The loop's Env must be set.
class CoordinatorProcess {
 public:
  CoordinatorProcess(runtime::EventLoop& loop, cluster::CoordinatorOptions options);
  cluster::PostOffice& post_office() { return post_office_; }

 private:
  cluster::PostOffice post_office_;
};

// The children of a host's agent: the Coordinator where it lives there, then the host's workers. `arguments` gives the
// command line of a process (the state folder for real ones).
using ProcessArguments = std::function<std::vector<std::string>(const ProcessPlace&)>;
std::vector<cluster::NodeAgentOptions::Child> children_of(const ProcessList& processes, const ProcessPlace& agent,
                                                          const ProcessArguments& arguments);

class AgentProcess {
 public:
  AgentProcess(runtime::EventLoop& loop, cluster::NodeAgentOptions options);
  cluster::PostOffice& post_office() { return post_office_; }

 private:
  cluster::PostOffice post_office_;
};

}  // namespace consort::cli
