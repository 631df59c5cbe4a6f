// Trunk: all weights of a range of layers but the routed experts, with the embedding, final norm and head.
// Held by a Decoder. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "model/checkpoint.hpp"
#include "model/rope.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

struct LayerRange {
  std::int64_t first = 0;
  std::int64_t last = 0;  // one past the end
  constexpr bool operator==(const LayerRange&) const = default;
};

struct TrunkWeights;  // model/trunk_weights.hpp

// Immutable; shared by every pass. Weights stay in their stored dtype; norms and biases are F32.
class Trunk {
 public:
  static runtime::Outcome<std::shared_ptr<const Trunk>> load(const Checkpoint& checkpoint, LayerRange range,
                                                             const Progress& progress = {});
  // What load reads: the embedding with layer 0, the norm and head with the last layer.
  static std::uint64_t bytes_needed(const Checkpoint& checkpoint, LayerRange range);
  ~Trunk();

  const ModelConfig& config() const { return config_; }
  const Rope& rope() const { return rope_; }
  LayerRange range() const { return range_; }
  const TrunkWeights& weights() const { return *weights_; }

 private:
  Trunk(const ModelConfig& config, LayerRange range);
  ModelConfig config_;
  Rope rope_;
  LayerRange range_;
  std::unique_ptr<TrunkWeights> weights_;
};

}  // namespace consort::model
