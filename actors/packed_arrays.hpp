// Arrays of numbers in a payload, one after the other, little endian, without padding; sizes travel in the metadata.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "runtime/buffer.hpp"

namespace consort::actors {

static_assert(std::endian::native == std::endian::little, "payloads are little endian and are not swapped");

class ArrayPacker {
 public:
  template <class T>
  requires std::is_trivially_copyable_v<T>
  void add(std::span<const T> values) {
    const auto bytes = std::as_bytes(values);
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  template <class T>
  void add(const std::vector<T>& values) {
    add(std::span<const T>(values));
  }
  runtime::Buffer buffer() const { return runtime::Buffer::copy_of(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

// The way back. take() is false where fewer bytes are left than were announced; done() is true where none are.
class ArrayUnpacker {
 public:
  explicit ArrayUnpacker(std::span<const std::byte> bytes) : left_(bytes) {}
  template <class T>
  requires std::is_trivially_copyable_v<T>
  bool take(std::vector<T>& out, std::size_t count) {
    if (count > left_.size() / sizeof(T)) return false;
    out.resize(count);
    if (count > 0) std::memcpy(out.data(), left_.data(), count * sizeof(T));
    left_ = left_.subspan(count * sizeof(T));
    return true;
  }
  // One value.
  template <class T>
  requires std::is_trivially_copyable_v<T>
  bool take(T& out) {
    if (left_.size() < sizeof(T)) return false;
    std::memcpy(&out, left_.data(), sizeof(T));
    left_ = left_.subspan(sizeof(T));
    return true;
  }
  bool done() const { return left_.empty(); }

 private:
  std::span<const std::byte> left_;
};

}  // namespace consort::actors
