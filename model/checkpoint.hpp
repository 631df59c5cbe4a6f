// Checkpoint: a Hugging Face directory (config.json, safetensors), checked whole by name, shape and dtype
// when opened. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "model/config.hpp"
#include "model/safetensors.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

// Called as bytes arrive: how many of how many.
using Progress = std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes)>;

class Checkpoint {
 public:
  // Opens headers only. Every tensor that the architecture needs must be there with its shape and a known
  // dtype; MTP layers and rotary_emb.inv_freq are left alone; any other tensor is refused, since
  // leaving it out would give wrong tokens without a word.
  static runtime::Outcome<std::shared_ptr<const Checkpoint>> open(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const { return directory_; }
  const ModelConfig& config() const { return config_; }
  // Two checkpoints with equal hashes may serve one cluster: config.json, every header, and sampled data.
  std::uint64_t manifest_hash() const { return manifest_hash_; }
  // Names that were recognised and left alone.
  const std::vector<std::string>& ignored() const { return ignored_; }
  // Tensors that the model uses, with their entries.
  std::vector<const TensorEntry*> tensors() const;

  // The entry, or null.
  const TensorEntry* find(const std::string& name) const;
  bool has(const std::string& name) const { return find(name) != nullptr; }
  // Fills `out` from byte `offset` of a tensor that exists.
  runtime::Status read(const std::string& name, std::uint64_t offset, std::span<std::byte> out) const;

  // The same open files with a count of its own from zero: who shares a checkpoint can still be told apart.
  std::shared_ptr<const Checkpoint> with_own_count() const;

  // What was read so far, headers apart.
  std::uint64_t data_bytes_read() const { return counter_->data_bytes; }
  std::uint64_t header_bytes_read() const { return counter_->header_bytes; }

 private:
  struct Place {
    const SafetensorsFile* file = nullptr;
    const TensorEntry* entry = nullptr;
  };
  Checkpoint() = default;
  runtime::Status open_files();
  runtime::Status open_index(const std::filesystem::path& path);
  runtime::Status add_file(const std::string& file_name,
                           const std::unordered_map<std::string, std::string>* weight_map);
  runtime::Status check_inventory();
  runtime::Status check_tensor(const std::string& name, std::initializer_list<std::int64_t> shape, bool quantisable);

  std::filesystem::path directory_;
  ModelConfig config_;
  std::uint64_t manifest_hash_ = 0;
  std::vector<std::shared_ptr<const SafetensorsFile>> files_;
  std::unordered_map<std::string, Place> places_;
  std::unordered_map<std::string, bool> needed_;
  std::vector<std::string> ignored_;
  std::shared_ptr<ReadCounter> counter_ = std::make_shared<ReadCounter>();
};

// "model.layers.3." and what follows.
std::string layer_name(std::int64_t layer, const std::string& rest);
// "model.layers.61.mlp..." -> 61; -1 for other names.
std::int64_t layer_of(const std::string& name);

}  // namespace consort::model
