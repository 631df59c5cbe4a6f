// KvPages: the latent KV bytes of a range of layers, in pages of 64 positions that somebody else's ledger
// hands out. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "model/config.hpp"
#include "runtime/check.hpp"

namespace consort::model {

inline constexpr std::int64_t kPagePositions = 64;  // position p lies in its sequence's page p / 64, row p % 64

// Pages that hold `positions` positions.
constexpr std::int64_t pages_for(std::int64_t positions) { return (positions + kPagePositions - 1) / kPagePositions; }

// One layer's share of one page is [64, kv_lora_rank + qk_rope_head_dim] F32: the normed latent, then the
// rotated key. Memory is asked for at once and touched by the operating system page by page, as positions are
// written.
class KvPages {
 public:
  KvPages(const ModelConfig& config, std::int64_t layer_count, std::int64_t page_count);

  std::int64_t page_count() const { return page_count_; }
  std::int64_t layer_count() const { return layer_count_; }
  std::int64_t width() const { return width_; }
  static std::uint64_t page_bytes(const ModelConfig& config, std::int64_t layer_count) {
    return static_cast<std::uint64_t>(layer_count * kPagePositions * config.latent_width()) * sizeof(float);
  }

  // `layer` counts from the first layer of the range.
  float* page(std::int64_t layer, std::uint32_t id) { return data_.get() + offset(layer, id); }
  const float* page(std::int64_t layer, std::uint32_t id) const { return data_.get() + offset(layer, id); }

 private:
  struct Free {
    void operator()(float* data) const { std::free(data); }
  };
  std::int64_t offset(std::int64_t layer, std::uint32_t id) const {
    CONSORT_CHECK(layer >= 0 && layer < layer_count_ && std::int64_t{id} < page_count_, layer, id, page_count_);
    return (layer * page_count_ + std::int64_t{id}) * kPagePositions * width_;
  }
  std::int64_t layer_count_, page_count_, width_;
  std::unique_ptr<float[], Free> data_;
};

}  // namespace consort::model
