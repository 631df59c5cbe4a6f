// Capture: logits, hidden rows and routes of every position of one request, for `consort logits`.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/forward_pass.hpp"
#include "runtime/outcome.hpp"

namespace consort::actors {

// Rows are kept by position, so that a repeated step writes them again. Filled on the executor, read between steps.
class Capture {
 public:
  explicit Capture(const model::ModelConfig& config) : config_(config) {}

  void keep_hidden(std::int64_t index, std::int64_t position, std::span<const float> row);
  void keep_logits(std::int64_t position, std::span<const float> row);
  void keep_routes(std::int64_t layer, std::int64_t position, std::span<const std::uint32_t> experts,
                   std::span<const float> weights);
  // Bytes of a tensor by the name that it has in the safetensors of `consort logits`.
  runtime::Outcome<std::span<const std::byte>> tensor(const std::string& name) const;
  std::uint64_t bytes_held() const { return bytes_held_; }
  static std::uint64_t bytes_needed(const model::ModelConfig& config, std::uint64_t tokens);

 private:
  template <class T>
  void keep(const std::string& name, std::int64_t position, std::span<const T> row);

  const model::ModelConfig config_;
  std::map<std::string, std::vector<std::byte>> tensors_;
  std::uint64_t bytes_held_ = 0;
};

}  // namespace consort::actors
