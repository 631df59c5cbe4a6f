// Router: gets a pass its parts from whichever nodes hold them, and again from others when those do not answer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "actors/experts/pass_observer.hpp"
#include "actors/experts/peer_pace.hpp"
#include "actors/experts/replica_choice.hpp"
#include "actors/experts/route_messages.hpp"
#include "runtime/actor.hpp"
#include "runtime/buffer.hpp"

namespace consort::actors {

struct RouterSettings {
  // Weights per column of a part: 3 x hidden x bytes of the experts' dtype. What a part costs beside another one.
  double bytes_per_column = 1;
  PassObserver* observer = nullptr;
};

// What happened so far; tests and status read it.
struct RouterCounters {
  std::uint64_t dispatches = 0;    // messages to ExpertGroups, replays included
  std::uint64_t replays = 0;       // dispatches repeated because their node was suspected, lost or refused
  std::uint64_t hedges = 0;        // dispatches repeated because their node was late
  std::uint64_t late_answers = 0;  // dropped: another replica was first, or the pass is over
  std::uint64_t waiting_rows = 0;  // rows that were given back without all their parts
  struct Edge {
    std::uint64_t dispatches = 0;
    std::uint64_t answers = 0;
    std::uint64_t sent_bytes = 0;
    std::uint64_t round_trip_ns = 0;  // of all answers together
  };
  std::map<runtime::NodeId, Edge> edges;
  std::vector<std::vector<std::uint32_t>> expert_rows;  // [layer][expert] rows that passes wanted; grows as they come
};

class Router final : public runtime::ActorOf<Router, RouterProtocol> {
 public:
  // `counters` may be null; it outlives restarts. `view` may be null until Membership tells one.
  Router(RouterSettings settings, runtime::BufferPool& buffers, cluster::ClusterViewPtr view,
         std::shared_ptr<RouterCounters> counters = nullptr);
  ~Router() override;

  void on(RoutePass message, runtime::ReplyTo<RoutedOutputs> reply, const runtime::Context& context);
  void on(cluster::ViewChanged message);
  void on(cluster::PeerSuspected message);
  void on(cluster::PeerLost message);

 private:
  // One life of a node: suspicion and loss are of a life, not of a name.
  struct Life {
    runtime::NodeId node;
    runtime::Incarnation incarnation;
    auto operator<=>(const Life&) const = default;
  };
  struct PassPart;
  struct Pass;
  struct Dispatch;
  enum class Cause : std::uint8_t { kFirst, kReplay, kHedge };

  void open_parts(Pass& pass);
  void count_rows(std::uint32_t layer, std::uint32_t expert, std::size_t rows);
  void add_visits(Pass& pass);
  void send_parts(Pass& pass, std::span<const std::size_t> parts, Cause cause);
  void send_to(Pass& pass, Life to, std::span<const std::size_t> parts);
  void on_answer(std::uint64_t dispatch, runtime::Outcome<PartOutputs> outcome);
  void on_refused(Pass& pass, const Dispatch& dispatch, const runtime::Error& error);
  bool fits(const Dispatch& dispatch, const PartOutputs& outputs) const;
  void keep_outputs(Pass& pass, const Dispatch& dispatch, PartOutputs outputs);
  void on_late(std::uint64_t dispatch);
  void replay(Dispatch& dispatch, std::string_view why);
  void give_up(Pass& pass, std::size_t part);
  void finish_if_whole(std::uint64_t pass);
  // Nodes that may get the part now, in the planner's order; ready ones, or else those that are still loading.
  std::vector<runtime::NodeId> usable_replicas(const PassPart& part) const;
  bool usable(const cluster::Member* member) const;
  ReplicaNode node_now(runtime::NodeId node, const Pass& pass) const;
  std::string node_name(runtime::NodeId node) const;
  PeerPace& pace(runtime::NodeId node, runtime::MessageClass urgency);

  const RouterSettings settings_;
  runtime::BufferPool& buffers_;
  cluster::ClusterViewPtr view_;
  model::NumericPlan plan_;
  std::uint64_t plan_digest_ = 0;
  std::shared_ptr<RouterCounters> counters_;
  std::set<Life> suspected_;
  std::set<Life> lost_;
  std::set<std::pair<Life, model::PartKey>> absent_;  // a node said that it does not hold them, under this view
  std::map<std::uint64_t, std::unique_ptr<Pass>> passes_;
  std::map<std::uint64_t, Dispatch> dispatches_;
  std::map<runtime::NodeId, double> queued_bytes_;
  std::map<std::pair<runtime::NodeId, runtime::MessageClass>, PeerPace> paces_;
  std::uint64_t next_name_ = 1;  // of passes and dispatches
};

}  // namespace consort::actors
