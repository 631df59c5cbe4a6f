// ClusterView: who is here, what lives where, under which epoch. Immutable snapshots, handed around by shared pointer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/roles.hpp"
#include "runtime/env.hpp"
#include "runtime/ids.hpp"

namespace consort::cluster {

enum class NodeState : std::uint8_t {
  kAbsent = 0,   // configured, never joined or declared dead
  kJoined = 1,   // has an incarnation; probing or waiting for a placement
  kLoading = 2,  // reads its parts of the placement in force
  kReady = 3,    // serves
};
std::string_view name(NodeState state);

struct NodeRoles {
  bool coordinator = false;  // the Coordinator's process runs on this node's host
  bool batcher = false;
  bool trunk = false;    // a Decoder
  bool experts = false;  // an ExpertGroup
  bool gateway = false;  // the Gateway's process runs on this node's host
  auto operator<=>(const NodeRoles&) const = default;
};

// What a node measured of itself; the planner sees nothing else.
struct NodeProfile {
  double expert_bytes_per_second = 0;  // weights of real parts read and multiplied for one row, on its own executor
  std::uint64_t memory_bytes = 0;      // its limit for weights and KV
  std::uint64_t trunk_bytes = 0;       // held already: trunk weights and KV pages
  double link_delay_seconds = 0;       // half a round trip to the nearest other worker
  double link_bytes_per_second = 0;
};

struct Member {
  runtime::NodeId node;
  runtime::Incarnation incarnation;  // 0 while kAbsent
  std::string name;
  NodeRoles roles;
  NodeState state = NodeState::kAbsent;
  runtime::LinkAddress data_address;
  runtime::LinkAddress control_address;
  runtime::LinkToken data_token{};
  NodeProfile profile;
  std::uint64_t checkpoint_bytes_read = 0;  // counted at pread
  std::uint32_t part_count = 0;             // held in memory
  std::uint64_t part_bytes = 0;
};

// A piece of the model that maps rows to rows (design, section 3). The cluster knows its name, not its meaning:
// kind 1 is a range of columns of a routed expert; others are later ones.
struct PartId {
  std::uint32_t layer = 0;
  std::uint8_t kind = 1;
  std::uint32_t index = 0;         // the expert
  std::uint32_t first_column = 0;  // of moe_intermediate_size
  std::uint32_t column_count = 0;
  auto operator<=>(const PartId&) const = default;
};
inline constexpr std::uint8_t kRoutedExpertPart = 1;

// part -> the nodes that hold it, in order of preference by the planner. Ordered, so that walks repeat.
using PlacementTable = std::map<PartId, std::vector<runtime::NodeId>>;

// What decides the bits (design, section 5): fixed at the first `up`, kept in the Coordinator's log, moved by no epoch.
struct NumericPlan {
  struct Columns {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    auto operator<=>(const Columns&) const = default;
  };
  std::vector<Columns> cut;  // covers 0 .. moe_intermediate_size, ascending
  std::string combine = "ordered";
  std::string wire = "f32";
  std::string numeric_class = "canonical";
  auto operator<=>(const NumericPlan&) const = default;
};

struct ClusterView {
  runtime::Epoch epoch;
  std::uint64_t version = 0;    // grows with every change, also where the epoch stays
  std::vector<Member> members;  // in order of NodeId
  NumericPlan numeric_plan;
  PlacementTable placement;  // empty until planned

  const Member* find(runtime::NodeId node) const;
  bool serves(runtime::NodeId node) const;  // kReady
};
using ClusterViewPtr = std::shared_ptr<const ClusterView>;

}  // namespace consort::cluster
