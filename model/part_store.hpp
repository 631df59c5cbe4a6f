// PartStore: the weights of the parts that one node holds. It outlives the actors that read it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "model/checkpoint.hpp"
#include "model/expert_part.hpp"
#include "model/part.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

// Bytes of the checkpoint that a part takes, on disk and in memory; scales included.
std::uint64_t part_bytes(const Checkpoint& checkpoint, const PartKey& key);

// All functions are thread-safe. A part that is dropped lives on until the last reader lets go of it.
class PartStore {
 public:
  // Reads the bytes of these parts and no others; parts that are here already are not read again. Each part
  // can be found as soon as it is read. Stops at the first failure, keeping what was read.
  runtime::Status load(const Checkpoint& checkpoint, std::span<const PartKey> keys, const Progress& progress = {});
  // The part, or null.
  std::shared_ptr<const PartWeights> find(const PartKey& key) const;
  void drop(std::span<const PartKey> keys);
  std::vector<PartKey> keys() const;  // in PartKey order
  std::uint64_t bytes_held() const;

 private:
  mutable std::shared_mutex mutex_;
  std::unordered_map<PartKey, std::shared_ptr<const PartWeights>> parts_;
  std::uint64_t bytes_held_ = 0;
};

}  // namespace consort::model
