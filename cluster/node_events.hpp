// What a worker's Membership actor tells and asks the actors beside it. Local messages, never on the wire.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "cluster/view.hpp"
#include "runtime/actor.hpp"

namespace consort::cluster {

// --- what subscribers on the same node get, as tells -------------------------------------------------------------
struct ViewChanged {
  static constexpr runtime::MessageKind kKind = 0x0180;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kSystem;
  static constexpr bool kLocal = true;
  ClusterViewPtr view;
};
// 500 ms without a byte from the peer: Routers go around it at once. `suspected` false: it is heard again.
struct PeerSuspected {
  static constexpr runtime::MessageKind kKind = 0x0181;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kSystem;
  static constexpr bool kLocal = true;
  runtime::NodeId node;
  runtime::Incarnation incarnation;
  bool suspected = true;
};
// The peer's incarnation is over: its process ended (an agent saw it) or the Coordinator declared it dead. The event
// loop has completed the asks to it with kPeerDown already.
struct PeerLost {
  static constexpr runtime::MessageKind kKind = 0x0182;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kSystem;
  static constexpr bool kLocal = true;
  runtime::NodeId node;
  runtime::Incarnation incarnation;
};

// The protocol of every subscriber.
using ViewSubscriber =
    runtime::Protocol<runtime::Tell<ViewChanged>, runtime::Tell<PeerSuspected>, runtime::Tell<PeerLost>>;

// --- what Membership asks the holder of this node's parts (actors/experts answers; house wires it) ----------------
struct PartsLoaded {
  static constexpr runtime::MessageKind kKind = 0x0191;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kSystem;
  static constexpr bool kLocal = true;
  std::uint32_t part_count = 0;
  std::uint64_t part_bytes = 0;
  std::uint64_t checkpoint_bytes_read = 0;  // of the whole process so far, trunk included
};
struct LoadParts {
  static constexpr runtime::MessageKind kKind = 0x0190;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kSystem;
  static constexpr bool kLocal = true;
  using Reply = PartsLoaded;
  runtime::Epoch epoch;
  std::vector<PartId> parts;  // all that this node shall hold; others are dropped
};
struct PartsProbed {
  static constexpr runtime::MessageKind kKind = 0x0193;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kSystem;
  static constexpr bool kLocal = true;
  double expert_bytes_per_second = 0;
  std::uint64_t checkpoint_bytes_read = 0;
};
// Times real parts on the node's executor. The node has its host's probe turn while this runs.
struct ProbeParts {
  static constexpr runtime::MessageKind kKind = 0x0192;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kSystem;
  static constexpr bool kLocal = true;
  using Reply = PartsProbed;
};
using PartHolder = runtime::Protocol<runtime::Ask<LoadParts>, runtime::Ask<ProbeParts>>;

}  // namespace consort::cluster
