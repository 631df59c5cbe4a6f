// What a node has counted and measured in its life so far. Counts only grow, so that whoever looks takes differences.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/ids.hpp"

namespace consort::cluster {

// Names of NodeFigures::numbers. A node tells those of its roles; unknown ones are shown by nobody.
namespace figure {
// Experts nodes.
inline constexpr std::string_view kComputations = "computations";      // answered ComputeParts
inline constexpr std::string_view kPartRows = "part_rows";             // rows of parts computed
inline constexpr std::string_view kPartBytesRead = "part_bytes_read";  // expert weights read for them
inline constexpr std::string_view kPartBusyNs = "part_busy_ns";        // time spent on them
// Trunk nodes: steps, and what their time went to. The times of a step add up to it, save what is left to the loop.
inline constexpr std::string_view kSteps = "steps";
inline constexpr std::string_view kStepRows = "step_rows";
inline constexpr std::string_view kTokens = "tokens";  // sampled
inline constexpr std::string_view kStepNs = "step_ns";
inline constexpr std::string_view kAttentionNs = "attention_ns";  // with norms, gate, and layers without experts
inline constexpr std::string_view kSharedNs = "shared_ns";        // shared experts
inline constexpr std::string_view kCombineNs = "combine_ns";
inline constexpr std::string_view kHeadNs = "head_ns";          // the last layer's rest, logits, sampling
inline constexpr std::string_view kDispatchNs = "dispatch_ns";  // waited for until parts had left
inline constexpr std::string_view kExpertsNs = "experts_ns";    // waited for while experts were computed
inline constexpr std::string_view kWaitNs = "wait_ns";          // waited for besides: wires and queues; see Edge
inline constexpr std::string_view kDispatches = "dispatches";
inline constexpr std::string_view kReplays = "replays";
inline constexpr std::string_view kHedges = "hedges";
inline constexpr std::string_view kLateAnswers = "late_answers";
inline constexpr std::string_view kWaitingRows = "waiting_rows";
inline constexpr std::string_view kPagesTotal = "pages_total";
// The Batcher's node.
inline constexpr std::string_view kAccepted = "accepted";
inline constexpr std::string_view kEnded = "ended";
inline constexpr std::string_view kRunning = "running";  // these three are not counts but states
inline constexpr std::string_view kQueued = "queued";
inline constexpr std::string_view kPagesUsed = "pages_used";
inline constexpr std::string_view kDecoderMoves = "decoder_moves";
inline constexpr std::string_view kPagesCached = "pages_cached";      // a state too: kept for prompts to come
inline constexpr std::string_view kPrefixQueries = "prefix_queries";  // prompt tokens looked up in the prefix cache
inline constexpr std::string_view kPrefixHits = "prefix_hits";        // prompt tokens found there
inline constexpr std::string_view kPreemptions = "preemptions";
}  // namespace figure

struct NodeFigures {
  // From this node's Decoder to one node that computes parts.
  struct Edge {
    runtime::NodeId peer;
    std::uint64_t dispatches = 0;
    std::uint64_t answers = 0;
    std::uint64_t sent_bytes = 0;
    std::uint64_t round_trip_ns = 0;  // of all answers together
    std::uint64_t wait_ns = 0;        // steps waited for it this long, besides its computing
    auto operator<=>(const Edge&) const = default;
  };
  // How many rows this node sent to each expert of a layer. 32 bits: differences hold over an overflow.
  struct LayerLoad {
    std::uint32_t layer = 0;
    std::vector<std::uint32_t> rows;
    auto operator<=>(const LayerLoad&) const = default;
  };
  runtime::NodeId node;
  runtime::Incarnation incarnation;
  std::int64_t at_ns = 0;  // on the node's clock
  std::vector<std::pair<std::string, std::uint64_t>> numbers;
  std::vector<Edge> edges;
  std::vector<LayerLoad> loads;

  void set(std::string_view name, std::uint64_t value) { numbers.emplace_back(name, value); }
  // 0 where the node does not tell it.
  std::uint64_t value(std::string_view name) const {
    for (const auto& [key, number] : numbers) {
      if (key == name) return number;
    }
    return 0;
  }
};

}  // namespace consort::cluster
