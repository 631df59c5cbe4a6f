// The ordered combine: the sum of a row's expert outputs, in an order that no arrival can change.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/gate.hpp"
#include "runtime/tensor_view.hpp"

namespace consort::model {

// Where the outputs of one layer's parts lie: one pointer to [hidden] F32 for each (row, k-th expert of the
// row, column range of the numeric plan). They may lie in any buffers and be filled in any order; they are
// read in fixed order. The buffers belong to whoever set them and must live until take() returns.
class PartOutputs {
 public:
  PartOutputs() = default;
  PartOutputs(std::int64_t tokens, std::int64_t top_k, std::int64_t ranges)
      : tokens_(tokens), top_k_(top_k), ranges_(ranges), rows_(static_cast<std::size_t>(tokens * top_k * ranges)) {}

  // k counts the row's experts in ascending order (as Routes does), range the plan's column ranges.
  void set(std::int64_t token, std::int64_t k, std::int64_t range, const float* row) {
    rows_[index(token, k, range)] = row;
  }
  const float* get(std::int64_t token, std::int64_t k, std::int64_t range) const {
    return rows_[index(token, k, range)];
  }
  // Whether every output of the row is here.
  bool complete(std::int64_t token) const {
    for (std::int64_t i = 0; i < top_k_ * ranges_; ++i)
      if (rows_[static_cast<std::size_t>(token * top_k_ * ranges_ + i)] == nullptr) return false;
    return true;
  }
  std::int64_t tokens() const { return tokens_; }
  std::int64_t top_k() const { return top_k_; }
  std::int64_t ranges() const { return ranges_; }

 private:
  std::size_t index(std::int64_t token, std::int64_t k, std::int64_t range) const {
    return static_cast<std::size_t>((token * top_k_ + k) * ranges_ + range);
  }
  std::int64_t tokens_ = 0, top_k_ = 0, ranges_ = 0;
  std::vector<const float*> rows_;
};

// x[t] += sum, where sum starts at zero and takes fma(weight, output, sum) with experts ascending and, within
// an expert, columns ascending; then one addition. The caller has added the shared expert's output to x
// before.
//   x [tokens, hidden] F32. Rows that are not alive are left as they are and may lack outputs; empty `alive`
//   = all are.
void combine(runtime::TensorView x, const PartOutputs& outputs, const Routes& routes,
             std::span<const std::uint8_t> alive = {});

}  // namespace consort::model
