// Prober: measures a node once, in its host's probe turn: real parts on its executor, then the links to the other workers.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "cluster/messages.hpp"
#include "cluster/node_events.hpp"
#include "runtime/actor.hpp"

namespace consort::cluster {

// A child of Membership. Ends by itself when it has told what it measured.
class Prober final : public runtime::ActorOf<Prober, runtime::Protocol<>> {
 public:
  struct Options {
    runtime::NodeId node;
    std::optional<runtime::RefTo<NodeAgentProtocol>> agent;  // who gives turns; none: it is always ours
    runtime::RefTo<PartHolder> parts;
    std::vector<runtime::RefTo<MembershipProtocol>> peers;
  };
  // `done` gets speed and links; memory is not measured.
  Prober(Options options, std::function<void(NodeProfile)> done);

 private:
  enum class Step : std::uint8_t { kTurn, kParts, kDelay, kRate, kDone };
  void on_start() override { go(Step::kTurn); }
  void go(Step step);
  void take_turn();
  void probe_parts();
  void probe_delay();
  void probe_rate();
  void try_again(Step step);
  void next_peer();
  void finish();

  const Options options_;
  const std::function<void(NodeProfile)> done_;
  NodeProfile profile_;
  std::size_t peer_index_ = 0;
  int echo_count_ = 0;
  int failed_echoes_ = 0;
  std::vector<double> round_trips_;   // of the present peer, small echoes
  std::vector<double> delays_;        // one per peer
  std::vector<double> rates_;         // one per peer
};

}  // namespace consort::cluster
