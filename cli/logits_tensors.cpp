#include "cli/logits_tensors.hpp"

#include <algorithm>
#include <cstring>

#include "model/safetensors.hpp"

namespace consort::cli {

LogitsTensors::LogitsTensors(std::span<const std::int32_t> ids) : tokens_(static_cast<std::int64_t>(ids.size())) {
  std::ranges::copy(ids, i64("ids", 0).begin());
}

LogitsTensors::Tensor& LogitsTensors::tensor(const std::string& name, runtime::Dtype dtype, std::int64_t cols) {
  Tensor& tensor = tensors_[name];
  if (tensor.bytes.empty()) {
    tensor.dtype = dtype;
    tensor.cols = cols;
    tensor.bytes.resize(static_cast<std::size_t>(tokens_ * std::max<std::int64_t>(cols, 1) * dtype_bytes(dtype)));
  }
  CONSORT_CHECK(tensor.dtype == dtype && tensor.cols == cols, name, cols, tensor.cols);
  return tensor;
}

std::span<float> LogitsTensors::f32(const std::string& name, std::int64_t cols) {
  auto& bytes = tensor(name, runtime::Dtype::kF32, cols).bytes;
  return {reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)};
}

std::span<std::int64_t> LogitsTensors::i64(const std::string& name, std::int64_t cols) {
  auto& bytes = tensor(name, runtime::Dtype::kI64, cols).bytes;
  return {reinterpret_cast<std::int64_t*>(bytes.data()), bytes.size() / sizeof(std::int64_t)};
}

runtime::Status LogitsTensors::write(const std::string& file) const {
  std::vector<model::NamedTensor> named;
  for (const auto& [name, tensor] : tensors_) {
    const std::byte* data = tensor.bytes.data();
    named.push_back({name, tensor.cols == 0 ? runtime::ConstTensorView(data, tensor.dtype, {tokens_})
                                            : runtime::ConstTensorView(data, tensor.dtype, {tokens_, tensor.cols})});
  }
  return model::write_safetensors(file, named);
}

void LogitsCapture::on_hidden(std::int64_t index, std::span<const model::RowOrigin> rows,
                              runtime::ConstTensorView hidden) {
  const auto cols = hidden.cols();
  const auto out = tensors_.f32("hidden." + std::to_string(index), cols);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    std::memcpy(&out[static_cast<std::size_t>(rows[r].position * cols)], hidden.f32(static_cast<std::int64_t>(r)),
                static_cast<std::size_t>(cols) * sizeof(float));
  }
}

void LogitsCapture::on_routes(runtime::LayerIndex layer, std::span<const model::RowOrigin> rows,
                              const model::Routes& routes) {
  const std::string prefix = "routes." + std::to_string(layer.value);
  const auto experts = tensors_.i64(prefix + ".experts", routes.top_k);
  const auto weights = tensors_.f32(prefix + ".weights", routes.top_k);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::int64_t k = 0; k < routes.top_k; ++k) {
      const auto to = static_cast<std::size_t>(rows[r].position * routes.top_k + k);
      const auto from = routes.at(static_cast<std::int64_t>(r), k);
      experts[to] = routes.experts[from];
      weights[to] = routes.weights[from];
    }
  }
}

}  // namespace consort::cli
