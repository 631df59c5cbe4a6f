// ReplicaChoice: which node computes which part of a pass: the one that is predicted to be done first.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "runtime/ids.hpp"

namespace consort::actors {

// What the Router knows of a node that may be chosen.
struct ReplicaNode {
  double bytes_per_second = 1e9;  // of part weights, as the node measured
  double delay_seconds = 0;       // one way; 0 for this node
  double queued_bytes = 0;        // weights of what is outstanding there
  bool visited = false;           // this pass goes there anyway
};

struct PartToPlace {
  double bytes = 0;                           // weights, times what its rows make of them (see part_cost_bytes)
  std::span<const runtime::NodeId> replicas;  // that may be chosen, in the planner's order of preference
};

// A part's weights are read once for up to this many rows; beyond, arithmetic binds and time grows with the rows.
inline constexpr double kRowsPerRead = 8;
double part_cost_bytes(double weight_bytes, std::size_t rows);

// For each part an index into its replicas, or none where it has no replica. Parts with fewer replicas choose first;
// each takes the node with the earliest predicted end, ties in the planner's order. `nodes` holds every replica and is
// updated (queued_bytes, visited). Pure, and the same for the same input.
std::vector<std::optional<std::size_t>> choose_replicas(std::span<const PartToPlace> parts,
                                                        std::map<runtime::NodeId, ReplicaNode>& nodes);

}  // namespace consort::actors
