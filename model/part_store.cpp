#include "model/part_store.hpp"

#include <algorithm>
#include <mutex>

#include "model/part_weights.hpp"

namespace consort::model {
namespace {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Status;

std::string prefix_of(const PartKey& key) {
  return layer_name(key.layer.value, "mlp.experts." + std::to_string(key.index) + ".");
}

Status check_key(const ModelConfig& config, const PartKey& key) {
  if (key.kind != PartKind::kRoutedExpert)
    return failure(ErrorKind::kInvalid, describe(key) + ": only routed experts can be parts for now");
  if (key.layer.value >= config.num_hidden_layers || config.is_dense(key.layer.value) ||
      key.index >= config.n_routed_experts || key.column_count == 0 ||
      std::int64_t{key.first_column} + key.column_count > config.moe_intermediate_size)
    return failure(ErrorKind::kInvalid, describe(key) + " does not exist in this model");
  return runtime::done();
}

}  // namespace

std::uint64_t part_bytes(const Checkpoint& checkpoint, const PartKey& key) {
  const std::int64_t hidden = checkpoint.config().hidden_size;
  const std::string prefix = prefix_of(key);
  return stored_bytes(checkpoint, prefix + "gate_proj.weight", {key.first_column, key.column_count, 0, hidden}) +
         stored_bytes(checkpoint, prefix + "up_proj.weight", {key.first_column, key.column_count, 0, hidden}) +
         stored_bytes(checkpoint, prefix + "down_proj.weight", {0, hidden, key.first_column, key.column_count});
}

Status PartStore::load(const Checkpoint& checkpoint, std::span<const PartKey> keys, const Progress& progress) {
  std::uint64_t total = 0, loaded = 0;
  for (const PartKey& key : keys) {
    CONSORT_RETURN_IF_ERROR(check_key(checkpoint.config(), key));
    total += part_bytes(checkpoint, key);
  }
  for (const PartKey& key : keys) {
    if (find(key) == nullptr) {
      FfnWeights weights;
      CONSORT_TRY(weights, load_ffn(checkpoint, prefix_of(key), {key.first_column, key.column_count}));
      auto part = std::make_shared<const PartWeights>(std::move(weights));
      const std::unique_lock lock(mutex_);
      if (parts_.emplace(key, part).second) bytes_held_ += part->ffn.bytes();
    }
    loaded += part_bytes(checkpoint, key);
    if (progress) progress(loaded, total);
  }
  return runtime::done();
}

std::shared_ptr<const PartWeights> PartStore::find(const PartKey& key) const {
  const std::shared_lock lock(mutex_);
  const auto found = parts_.find(key);
  return found == parts_.end() ? nullptr : found->second;
}

void PartStore::drop(std::span<const PartKey> keys) {
  const std::unique_lock lock(mutex_);
  for (const PartKey& key : keys) {
    const auto found = parts_.find(key);
    if (found == parts_.end()) continue;
    bytes_held_ -= found->second->ffn.bytes();
    parts_.erase(found);
  }
}

std::vector<PartKey> PartStore::keys() const {
  std::vector<PartKey> keys;
  {
    const std::shared_lock lock(mutex_);
    for (const auto& [key, part] : parts_) keys.push_back(key);
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

std::uint64_t PartStore::bytes_held() const {
  const std::shared_lock lock(mutex_);
  return bytes_held_;
}

}  // namespace consort::model
