// How a step is cut into micro-batches: runs of rows in the step's order, so that one computes while another waits.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "actors/serving/step_messages.hpp"

namespace consort::actors {

// Rows [first_row, first_row + row_count) of a sequence of the step.
struct SequenceSlice {
  std::size_t sequence = 0;
  std::uint32_t first_row = 0;
  std::uint32_t row_count = 0;
  bool operator==(const SequenceSlice&) const = default;
};
struct MicroBatchPlan {
  std::vector<SequenceSlice> slices;
  // Its first sequence began in the micro-batch before: layer by layer, that one's KV must be written first.
  bool follows_previous = false;
};

// At most `count` micro-batches of nearly equal rows. A sequence is cut only where each piece keeps `min_rows` rows.
std::vector<MicroBatchPlan> cut_step(std::span<const StepSequence> sequences, int count, std::uint32_t min_rows);

}  // namespace consort::actors
