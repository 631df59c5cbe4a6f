// What the Coordinator knows and how it decides. Private to cluster/coordinator*.cpp.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cluster/coordinator.hpp"
#include "cluster/decision_log.hpp"
#include "runtime/callback.hpp"

namespace consort::cluster {

// To a node whose heartbeats show an older view: tells may be lost with a wire, heartbeats come again.
inline constexpr runtime::Duration kViewAgain = std::chrono::milliseconds(300);

// What is known of a node beside the log. Gone with the Coordinator's process; nodes tell it again.
struct Life {
  runtime::Incarnation registered;  // the life that told this term its addresses; 0: none
  runtime::LinkAddress data_address;
  runtime::LinkAddress control_address;
  runtime::LinkToken data_token{};
  NodeProfile profile;
  runtime::Epoch loaded;  // the epoch whose parts it holds
  std::uint32_t part_count = 0;
  std::uint64_t part_bytes = 0;
  std::uint64_t checkpoint_bytes_read = 0;
  runtime::Instant heard;
  bool beats = false;  // heard under its incarnation: from then on it can take views
  runtime::Instant view_sent;
};

ClusterViewPtr without_tokens(const ClusterView& view);

struct Coordinator::State {
  struct Agent {
    runtime::RefTo<NodeAgentProtocol> ref;
  };
  struct Replacement {  // a node whose agent has to kill it and start it anew
    runtime::Incarnation incarnation;
    bool restart = true;
    std::string why;
    bool asking = false;
  };

  State(Coordinator& actor, PostOffice& post_office, CoordinatorOptions given)
      : self(actor), post(post_office), options(std::move(given)) {}

  Coordinator& self;
  PostOffice& post;
  const CoordinatorOptions options;
  std::unique_ptr<DecisionLog> log;
  DecidedState decided;  // runs ahead of the log's sync; nobody hears of it before
  bool started = false;
  int syncing = 0;  // records on their way to the disk
  std::vector<runtime::Callback<void()>> after_sync;
  bool publish_wanted = false;
  std::uint64_t view_count = 0;
  ClusterViewPtr view;  // the latest that was told
  std::map<runtime::NodeId, Life> lives;
  std::map<runtime::NodeId, Agent> agents;
  std::map<runtime::NodeId, runtime::NodeId> agent_of;
  std::map<runtime::NodeId, Replacement> to_replace;
  std::map<runtime::NodeId, std::string> given_up;  // nodes that their agent will not start again, and why
  std::map<runtime::NodeId, std::string> refused;   // Joins, and why
  std::string plan_refusal;
  std::string prediction;
  runtime::Instant last_tick;

  // --- coordinator.cpp: what the messages do ---
  std::optional<runtime::Error> refusal(const Join& join) const;
  void enter(const Join& join, runtime::Incarnation life);
  void child_ended(runtime::NodeId node, runtime::Incarnation life, const std::string& how);

  // --- coordinator_decisions.cpp: log, deaths, plan, view ---
  void start();
  void tick();
  void commit(Decision decision, runtime::Callback<void()> then);
  void when_synced(runtime::Callback<void()> then);
  void declare_dead(runtime::NodeId node, runtime::Incarnation life, std::string why, bool replace);
  void ask_replacements();
  PlanRequest plan_request(runtime::NodeId without) const;
  void plan_if_ready();
  void decide_placement(Plan plan);
  bool placement_fits() const;
  std::uint32_t shape() const;
  bool adopting() const;
  bool has_other_trunk(runtime::NodeId node) const;
  void publish();
  void send_view(runtime::NodeId node, Life& life);
  ClusterView draw_view() const;
  ClusterViewPtr public_view() const { return without_tokens(*view); }
  struct Trouble {
    std::string words;  // empty: none
    bool needs_operator = false;
  };
  Trouble trouble() const;

  const NodeConfig* config_of(runtime::NodeId node) const;
  bool is_alive(runtime::NodeId node) const;
  bool is_registered(runtime::NodeId node, const Life& life) const;
  NodeState state_of(runtime::NodeId node) const;
  Life* registered(runtime::NodeId node, runtime::Incarnation life);
};

}  // namespace consort::cluster
