// LogitsTensors: logits, hidden states and routes of a run, under the names of a `consort logits` file.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/forward_pass.hpp"
#include "model/matrix.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

// ids [tokens] I64; logits [tokens, vocab] F32; hidden.<i> [tokens, hidden] F32 (0: embedding, i: after layer i - 1,
// the last one after model.norm); routes.<layer>.experts [tokens, top_k] I64 ascending and routes.<layer>.weights F32.
class LogitsTensors {
 public:
  explicit LogitsTensors(std::span<const std::int32_t> ids);

  // Room for a tensor, all zero; filled by whoever captures. kInvalid-free: names are ours.
  std::span<float> f32(const std::string& name, std::int64_t cols);
  std::span<std::int64_t> i64(const std::string& name, std::int64_t cols);
  runtime::Status write(const std::string& file) const;
  std::int64_t tokens() const { return tokens_; }

 private:
  struct Tensor {
    runtime::Dtype dtype = runtime::Dtype::kF32;
    std::int64_t cols = 0;  // 0: a vector
    std::vector<std::byte> bytes;
  };
  Tensor& tensor(const std::string& name, runtime::Dtype dtype, std::int64_t cols);
  const std::int64_t tokens_;
  std::map<std::string, Tensor> tensors_;
};

// Fills the tensors from a pass in this process, by position.
class LogitsCapture final : public model::PassListener {
 public:
  explicit LogitsCapture(LogitsTensors& tensors) : tensors_(tensors) {}
  void on_hidden(std::int64_t index, std::span<const model::RowOrigin> rows, runtime::ConstTensorView hidden) override;
  void on_routes(runtime::LayerIndex layer, std::span<const model::RowOrigin> rows,
                 const model::Routes& routes) override;

 private:
  LogitsTensors& tensors_;
};

}  // namespace consort::cli
