// Membership: a worker's place in the cluster. Joins, connects to peers, beats, suspects, loads parts, tells its
// neighbours. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cluster/messages.hpp"
#include "cluster/node_events.hpp"
#include "cluster/post_office.hpp"
#include "runtime/actor.hpp"

namespace consort::cluster {

struct MembershipOptions {
  runtime::NodeId node;
  std::string name;
  std::string manifest;  // of the model's files
  std::string build;
  std::uint64_t memory_bytes = 0;            // limit for weights and KV
  std::uint64_t trunk_bytes = 0;             // trunk weights and KV pages, held already
  std::uint32_t worker_count = 1;            // in the config: links are probed when all are here, or after some seconds
  runtime::LinkAddress coordinator_address;  // control plane; empty where the link finds it by itself
  runtime::NodeId agent;                     // 0: none (a test, a simulation without agents)
  runtime::LinkAddress agent_address;
  runtime::Duration heartbeat_every = std::chrono::milliseconds(100);
  runtime::Duration suspect_after = std::chrono::milliseconds(500);
  std::vector<runtime::RefTo<ViewSubscriber>> subscribers;  // on this node; told in this order
  std::optional<runtime::RefTo<PartHolder>> parts;          // none: a node without experts
  std::function<std::uint64_t()> checkpoint_bytes_read;     // of the whole process so far; none: 0
  std::function<NodeFigures()> figures;                     // what the node's actors have counted; none: nothing
  std::function<void(runtime::Incarnation)> on_joined;      // before anything is sent under it: links learn it here
};

// spawn_root as Role::kMembership, index 0, after the actors that subscribe. Needs env.control; env.data where there
// are other workers. Opens the cluster by itself in on_start and never gives up.
class Membership final : public runtime::ActorOf<Membership, MembershipProtocol> {
 public:
  Membership(PostOffice& post_office, MembershipOptions options);
  ~Membership() override;

  void on(ViewUpdate message, const runtime::Context& context);
  void on(RegisterAgain message, const runtime::Context& context);
  void on(Heartbeat message);
  void on(LinkEcho message, runtime::ReplyTo<LinkEchoed> reply);
  void on(ChildExited message);
  void on(ClusterStatus message, runtime::ReplyTo<ClusterStatusReport> reply);
  void on(CollectTrace message, runtime::ReplyTo<NodeTraceEvents> reply);
  void on(EnableTrace message, runtime::ReplyTo<TraceEnabled> reply);
  void on(ReadFigures message, runtime::ReplyTo<NodeFiguresRead> reply);

 private:
  void on_start() override;
  void on_stop() override;

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace consort::cluster
