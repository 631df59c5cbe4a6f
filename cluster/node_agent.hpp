// NodeAgent: one per host. Starts, watches and replaces its workers and the Coordinator; gives workers their probe turns.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cluster/messages.hpp"
#include "cluster/post_office.hpp"
#include "runtime/actor.hpp"

namespace consort::cluster {

struct NodeAgentOptions {
  struct Child {
    runtime::NodeId node;        // kCoordinatorNode for the Coordinator's process
    runtime::ProcessSpec spec;
  };
  std::string host;
  std::vector<Child> children;   // started in this order; the Coordinator first
  bool restart = true;           // false: an ended worker stays ended (--no-restart); the Coordinator's too
  runtime::LinkAddress coordinator_address;
  runtime::LinkAddress control_address;   // its own, for the Coordinator
  runtime::Duration first_backoff = std::chrono::milliseconds(200);
  runtime::Duration last_backoff = std::chrono::seconds(10);
};

// spawn_root as Role::kNodeAgent, index 0, in a process of its own. Needs env.spawner and env.control. After Shutdown,
// and when the last child has ended, it ends the process through env.terminator.
class NodeAgent final : public runtime::ActorOf<NodeAgent, NodeAgentProtocol> {
 public:
  NodeAgent(PostOffice& post_office, NodeAgentOptions options);
  ~NodeAgent() override;

  void on(WorkerJoined message, const runtime::Context& context);
  void on(TakeProbeTurn message, runtime::ReplyTo<ProbeTurn> reply);
  void on(ReleaseProbeTurn message);
  void on(NodeLost message, runtime::ReplyTo<NodeReplaced> reply);
  void on(ViewUpdate message);
  void on(Shutdown message, runtime::ReplyTo<ShuttingDown> reply);

 private:
  void on_start() override;

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace consort::cluster
