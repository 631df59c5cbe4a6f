// PartReference: what any part makes of any row, computed apart from the cluster and remembered over many worlds.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>

#include "model/checkpoint.hpp"
#include "model/part.hpp"
#include "model/part_store.hpp"

namespace consort::cli {

// Of F32 rows; equal bits give equal prints.
std::uint64_t row_print(std::span<const float> row);

// Thread-safe. Its memory grows with the rows that differ, which runs of one scenario hardly do.
class PartReference {
 public:
  explicit PartReference(std::shared_ptr<const model::Checkpoint> checkpoint) : checkpoint_(std::move(checkpoint)) {}
  std::int64_t hidden() const { return checkpoint_->config().hidden_size; }
  // The print of the part's output for this row.
  std::uint64_t output_print(const model::PartKey& part, std::span<const float> row);

 private:
  const std::shared_ptr<const model::Checkpoint> checkpoint_;
  model::PartStore parts_;
  std::mutex mutex_;
  std::unordered_map<std::uint64_t, std::uint64_t> prints_;
};

}  // namespace consort::cli
