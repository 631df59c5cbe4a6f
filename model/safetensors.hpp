// Safetensors files: a strict header reader, reads by pread with a byte counter, and a writer.
//   file = u64 little-endian header length, header JSON (may be space-padded), tensor data.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/outcome.hpp"
#include "runtime/tensor_view.hpp"

namespace consort::model {

struct TensorEntry {
  std::string name;
  runtime::Dtype dtype = runtime::Dtype::kF32;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;  // bytes from the start of the data
  std::uint64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  // by begin; they tile the data without gap or overlap
  std::map<std::string, std::string> metadata;
  std::uint64_t data_offset = 0;  // of the data in the file
};

// Parses the header of a file of `file_bytes` whose first bytes are `start` (at least the header; more is
// ignored). Refuses headers above 100 MB, keys said twice, offsets that overlap, leave gaps, overflow or
// leave the file, and tensors whose bytes are not dtype times shape, by name. `where` names the file.
runtime::Outcome<SafetensorsHeader> parse_safetensors_header(std::span<const std::byte> start, std::uint64_t file_bytes,
                                                             std::string_view where);
// The length that the first 8 bytes of a file announce, checked against the limit and the file.
runtime::Outcome<std::uint64_t> safetensors_header_bytes(std::span<const std::byte> first8, std::uint64_t file_bytes,
                                                         std::string_view where);

// Bytes that were asked of the disk. Shared by the files of one checkpoint, written by any thread.
struct ReadCounter {
  std::atomic<std::uint64_t> header_bytes{0};
  std::atomic<std::uint64_t> data_bytes{0};
};

// An open file. Reading is thread-safe.
class SafetensorsFile {
 public:
  static runtime::Outcome<std::unique_ptr<const SafetensorsFile>> open(const std::filesystem::path& path,
                                                                       std::shared_ptr<ReadCounter> counter);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const TensorEntry> tensors() const { return header_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  const TensorEntry* find(const std::string& name) const;
  // Hash of the header and of a few sampled bytes of the data: tells two checkpoints of one shape apart.
  std::uint64_t digest() const { return digest_; }

  // Fills `out` from byte `offset` of the tensor; counted by `counter`, or where it is null by the file's own.
  runtime::Status read(const TensorEntry& entry, std::uint64_t offset, std::span<std::byte> out,
                       ReadCounter* counter = nullptr) const;

 private:
  SafetensorsFile() = default;
  runtime::Status pread_all(std::uint64_t position, std::span<std::byte> out) const;

  std::string path_;
  int descriptor_ = -1;
  std::uint64_t digest_ = 0;
  SafetensorsHeader header_;
  std::unordered_map<std::string, std::size_t> by_name_;
  std::shared_ptr<ReadCounter> counter_;
};

struct NamedTensor {
  std::string name;
  runtime::ConstTensorView view;
};

// Writes the tensors in the given order; the file appears under `path` only when it is whole.
runtime::Status write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                                  const std::map<std::string, std::string>& metadata = {});

}  // namespace consort::model
