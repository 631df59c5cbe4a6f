// RoutePass and RoutedOutputs: a Decoder's pass asks the Router beside it for the parts of one layer. Never on the
// wire. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "actors/experts/part_messages.hpp"
#include "cluster/node_events.hpp"
#include "model/combine.hpp"
#include "model/gate.hpp"
#include "runtime/actor.hpp"

namespace consort::actors {

struct RoutedOutputs {
  static constexpr runtime::MessageKind kKind = 0x0211;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kDecode;
  static constexpr bool kLocal = true;
  model::PartOutputs outputs;            // points into `buffers`; whole for every live row that does not wait
  std::vector<runtime::Buffer> buffers;  // the replies, in order of arrival, kept while `outputs` is read
  std::vector<std::uint8_t> waiting;     // [rows] 1: a part of this row is at no node that answers; empty: none waits
  std::string why_waiting;               // which part, and what became of its nodes
  std::vector<runtime::NodeId> visited;  // nodes whose outputs arrived, ascending
  // Where the pass's time went: when its parts had left, and whose answer was the last, with what computing it took.
  runtime::Instant sent{};
  runtime::NodeId awaited;
  runtime::Duration awaited_compute{0};
};

struct RoutePass {
  static constexpr runtime::MessageKind kKind = 0x0210;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kDecode;
  static constexpr bool kLocal = true;
  using Reply = RoutedOutputs;
  DispatchKey key;
  std::uint32_t hidden = 0;
  runtime::Buffer rows;  // F32 [routes.tokens, hidden]
  model::Routes routes;
  std::vector<std::uint8_t> alive;  // [rows] rows with 0 are not computed; empty: all are
  runtime::MessageClass urgency = runtime::MessageClass::kDecode;
  // Warm-up: also sends one row to every node that holds parts, and answers only when all have answered.
  bool visit_all_nodes = false;
};

using RouterProtocol = runtime::Protocol<runtime::Ask<RoutePass>, runtime::Tell<cluster::ViewChanged>,
                                         runtime::Tell<cluster::PeerSuspected>, runtime::Tell<cluster::PeerLost>>;
using ExpertGroupProtocol = runtime::Protocol<runtime::Ask<ComputeParts>, runtime::Ask<cluster::LoadParts>,
                                              runtime::Ask<cluster::ProbeParts>, runtime::Tell<cluster::ViewChanged>,
                                              runtime::Tell<cluster::PeerSuspected>, runtime::Tell<cluster::PeerLost>>;

}  // namespace consort::actors
