// The plain loop: a whole model in one process, its parts computed here, feeding forward_pass.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/checkpoint.hpp"
#include "model/forward_pass.hpp"
#include "model/kv_pages.hpp"
#include "model/part.hpp"
#include "model/part_store.hpp"
#include "model/trunk.hpp"
#include "runtime/outcome.hpp"
#include "runtime/workers.hpp"

namespace consort::model {

// A checkpoint with its trunk and every part in memory.
class LocalModel {
 public:
  // Without a plan, experts are whole.
  static runtime::Outcome<std::shared_ptr<const LocalModel>> load(const std::filesystem::path& directory,
                                                                  std::optional<NumericPlan> plan = {},
                                                                  const Progress& progress = {});
  const ModelConfig& config() const { return checkpoint_->config(); }
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  const NumericPlan& plan() const { return plan_; }
  const std::shared_ptr<const Trunk>& trunk() const { return trunk_; }
  const PartStore& parts() const { return parts_; }

 private:
  std::shared_ptr<const Checkpoint> checkpoint_;
  NumericPlan plan_;
  std::shared_ptr<const Trunk> trunk_;
  PartStore parts_;
};

// Computes all parts that a pass needs and gives it their outputs.
void compute_parts_locally(ForwardPass& pass, const PartsNeeded& needed, const NumericPlan& plan,
                           const PartStore& parts, runtime::Workers& workers);

// Sequences that grow on one model, up to `page_count` pages of KV in all.
class LocalGeneration {
 public:
  LocalGeneration(std::shared_ptr<const LocalModel> model, std::int64_t page_count, runtime::Workers& workers);

  struct Rows {
    std::uint64_t sequence = 0;
    std::vector<std::int32_t> tokens;
    std::int64_t logit_rows = 1;  // of the last rows
  };

  std::uint64_t open();
  void close(std::uint64_t sequence);
  // Tokens that are in the sequence's KV.
  std::int64_t length(std::uint64_t sequence) const;
  // Forgets positions from `length` on.
  void roll_back(std::uint64_t sequence, std::int64_t length);

  // Appends rows to their sequences in one pass; logits [all logit rows in order, vocab_size]. Out of pages,
  // or a bad token: nothing has changed.
  runtime::Outcome<Matrix> step(std::span<const Rows> rows, PassListener* listener = nullptr);
  // Appends the tokens in passes of at most `chunk_tokens` rows; logits of the last `logit_rows` rows.
  runtime::Outcome<Matrix> prefill(std::uint64_t sequence, std::span<const std::int32_t> tokens,
                                   std::int64_t chunk_tokens, std::int64_t logit_rows = 1,
                                   PassListener* listener = nullptr);

 private:
  struct Sequence {
    std::uint64_t name = 0;
    std::int64_t length = 0;
    std::vector<std::uint32_t> pages;
  };
  Sequence& find(std::uint64_t name);
  const Sequence& find(std::uint64_t name) const;

  std::shared_ptr<const LocalModel> model_;
  KvPages pages_;
  runtime::Workers& workers_;
  std::vector<std::uint32_t> free_pages_;
  std::vector<Sequence> sequences_;
  std::uint64_t next_name_ = 1;
};

// The largest logit; ties go to the lower token id.
std::int32_t greedy_token(std::span<const float> logits);

// CRC32C of a row of logits as little-endian F32 bytes: two runs that agree in it agree in every bit.
std::uint32_t logits_crc(std::span<const float> logits);

}  // namespace consort::model
