#include "actors/serving/capture.hpp"

#include <cstring>

namespace consort::actors {

using runtime::ErrorKind;
using runtime::Outcome;

template <class T>
void Capture::keep(const std::string& name, std::int64_t position, std::span<const T> row) {
  std::vector<std::byte>& bytes = tensors_[name];
  const std::size_t first = static_cast<std::size_t>(position) * row.size_bytes();
  if (bytes.size() < first + row.size_bytes()) {
    bytes_held_ += first + row.size_bytes() - bytes.size();
    bytes.resize(first + row.size_bytes());
  }
  std::memcpy(bytes.data() + first, row.data(), row.size_bytes());
}

void Capture::keep_hidden(std::int64_t index, std::int64_t position, std::span<const float> row) {
  keep("hidden." + std::to_string(index), position, row);
}

void Capture::keep_logits(std::int64_t position, std::span<const float> row) { keep("logits", position, row); }

void Capture::keep_routes(std::int64_t layer, std::int64_t position, std::span<const std::uint32_t> experts,
                          std::span<const float> weights) {
  const std::vector<std::int64_t> ids(experts.begin(), experts.end());
  const std::string prefix = "routes." + std::to_string(layer);
  keep(prefix + ".experts", position, std::span<const std::int64_t>(ids));
  keep(prefix + ".weights", position, weights);
}

Outcome<std::span<const std::byte>> Capture::tensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return runtime::failure(ErrorKind::kInvalid, "no tensor \"" + name + "\" was captured");
  return std::span<const std::byte>(found->second);
}

std::uint64_t Capture::bytes_needed(const model::ModelConfig& config, std::uint64_t tokens) {
  const auto hidden = static_cast<std::uint64_t>((config.num_hidden_layers + 1) * config.hidden_size);
  const auto logits = static_cast<std::uint64_t>(config.vocab_size);
  const auto routes = static_cast<std::uint64_t>(config.num_hidden_layers * config.num_experts_per_tok);
  return tokens * ((hidden + logits) * sizeof(float) + routes * (sizeof(std::int64_t) + sizeof(float)));
}

}  // namespace consort::actors
