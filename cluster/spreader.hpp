// Spreads parts of given sizes over nodes of given speeds and room: the inner step of the planner.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "cluster/view.hpp"
#include "runtime/outcome.hpp"

namespace consort::cluster {

struct SizedPart {
  PartId id;
  std::uint64_t bytes = 0;
};
struct SpreadNode {
  runtime::NodeId node;
  double speed = 1;        // bytes per second; > 0
  std::uint64_t room = 0;  // bytes
};

// The bytes that each node should hold so that the largest bytes / speed is least: in proportion to speed, but never
// more than its room, nor more than all parts once. `once` is the size of all parts; once * replicas must fit.
std::vector<double> level_targets(const std::vector<SpreadNode>& nodes, std::uint64_t once, std::uint32_t replicas);

// Every part on `replicas` different nodes, within room, close to the targets over all parts and within each layer.
// Holders of `existing` stay. The first holder of a part is its first choice; these too follow speed.
// kInvalid names the part that found no place.
runtime::Outcome<PlacementTable> spread(const std::vector<SizedPart>& parts, const std::vector<SpreadNode>& nodes,
                                        const std::vector<double>& targets, std::uint32_t replicas,
                                        const PlacementTable& existing);

}  // namespace consort::cluster
