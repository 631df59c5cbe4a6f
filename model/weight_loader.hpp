// Loads weights, or rectangles cut out of them, from a checkpoint in their stored dtype, reading only their
// own bytes. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/weight.hpp"
#include "model/checkpoint.hpp"
#include "model/part.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

// Bytes aligned for vector loads; zero bytes is a valid size.
class WeightMemory {
 public:
  WeightMemory() = default;
  explicit WeightMemory(std::uint64_t bytes);
  std::span<std::byte> bytes() const { return {data_.get(), static_cast<std::size_t>(bytes_)}; }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte[], Free> data_;
  std::uint64_t bytes_ = 0;
};

// A weight and the memory under it; moving it keeps the matrix valid.
struct OwnedWeight {
  WeightMemory memory;
  std::vector<float> scale;  // FP8 only
  kernels::WeightMatrix matrix;
  std::uint64_t bytes() const { return memory.bytes().size() + scale.size() * sizeof(float); }
};

struct Rectangle {
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  std::int64_t first_col = 0;
  std::int64_t cols = 0;
};

// Rectangles outside the tensor are bugs: the checkpoint's shapes were checked when it was opened.
runtime::Outcome<OwnedWeight> load_weight(const Checkpoint& checkpoint, const std::string& name, Rectangle cut);
runtime::Outcome<OwnedWeight> load_weight(const Checkpoint& checkpoint, const std::string& name);
// A norm or a bias, expanded to F32.
runtime::Outcome<std::vector<float>> load_vector(const Checkpoint& checkpoint, const std::string& name);

// down(silu(gate x) * up x), or a column range of it.
struct FfnWeights {
  OwnedWeight gate, up, down;
  std::uint64_t bytes() const { return gate.bytes() + up.bytes() + down.bytes(); }
};
// `prefix` ends before "gate_proj".
runtime::Outcome<FfnWeights> load_ffn(const Checkpoint& checkpoint, const std::string& prefix, ColumnRange columns);

// Bytes that load_weight reads for a rectangle, scales included.
std::uint64_t stored_bytes(const Checkpoint& checkpoint, const std::string& name, Rectangle cut);
std::uint64_t stored_bytes(const Checkpoint& checkpoint, const std::string& name);

}  // namespace consort::model
