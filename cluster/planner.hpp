// The planner: a pure function from what nodes measured of themselves to the cut of the experts and who holds what.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cluster/node_config.hpp"
#include "cluster/view.hpp"
#include "runtime/outcome.hpp"

namespace consort::cluster {

// What the planner must know of a model. The house fills it from config.json and the checkpoint's headers.
struct PlanModel {
  std::vector<std::uint32_t> expert_layers;  // layers that have routed experts, ascending
  std::uint32_t n_routed_experts = 0;
  std::uint32_t num_experts_per_tok = 0;
  std::uint32_t moe_intermediate_size = 0;
  std::uint32_t column_unit = 128;  // cuts fall on multiples of it; 16 where moe_intermediate_size < 256
  std::uint32_t hidden_size = 0;
  std::function<std::uint64_t(const PartId&)> part_bytes;  // in memory
};

struct PlanNode {
  runtime::NodeId node;
  std::string name;  // for sentences
  NodeProfile profile;
};

struct PlanRequest {
  PlanModel model;
  std::vector<PlanNode> nodes;  // the experts nodes, in order of NodeId
  std::uint32_t replicas = 1;
  ColumnMode columns;
  std::optional<NumericPlan> numeric_plan;  // decided already: parts move, nothing is recut
  PlacementTable existing;                  // kept where its nodes are still there and have room
};

// What the plan promises; the cluster is held to it.
struct NodeForecast {
  runtime::NodeId node;
  std::uint32_t part_count = 0;
  std::uint64_t part_bytes = 0;   // held
  double byte_share = 0;          // of all bytes held
  double load_seconds = 0;        // bytes held / speed: what "spread" levels
  double first_choice_share = 0;  // of the bytes that it is the first choice for
};
struct PlanForecast {
  std::vector<NodeForecast> nodes;
  double worst_load_seconds = 0;        // what "spread" minimises
  double best_load_seconds = 0;         // its lower bound, if parts could be divided at will
  double expert_seconds_per_token = 0;  // of one decode step of one row, experts and their messages, all layers
  std::string sentence;                 // all of this for people
};

struct Plan {
  NumericPlan numeric;
  PlacementTable placement;
  PlanForecast forecast;
};

// kInvalid in words where it cannot fit: what is missing, in bytes, and what to do.
runtime::Outcome<Plan> make_plan(const PlanRequest& request);

// Near-equal ranges of whole units, the wider ones first; the last takes what is no whole unit.
runtime::Outcome<std::vector<NumericPlan::Columns>> cut_columns(std::uint32_t columns, std::uint32_t unit,
                                                                std::uint32_t count);

}  // namespace consort::cluster
