// Fifo: a queue in one block of memory that grows and is then reused. Its user bounds it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "runtime/check.hpp"

namespace consort::runtime {

// T is default constructible and movable; a popped place holds T{} so that nothing lives on in it.
template <class T>
class Fifo {
 public:
  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  const T& front() const {
    CONSORT_CHECK(size_ > 0);
    return ring_[first_];
  }
  void push(T value) {
    if (size_ == ring_.size()) grow();
    ring_[(first_ + size_) & (ring_.size() - 1)] = std::move(value);
    ++size_;
  }
  T pop() {
    CONSORT_CHECK(size_ > 0);
    T value = std::exchange(ring_[first_], T{});
    first_ = (first_ + 1) & (ring_.size() - 1);
    --size_;
    return value;
  }

 private:
  void grow() {
    std::vector<T> larger(ring_.empty() ? kFirstPlaces : 2 * ring_.size());
    for (std::size_t i = 0; i < size_; ++i) larger[i] = std::move(ring_[(first_ + i) & (ring_.size() - 1)]);
    ring_ = std::move(larger);
    first_ = 0;
  }
  static constexpr std::size_t kFirstPlaces = 8;  // a power of two, as every later size
  std::vector<T> ring_;
  std::size_t first_ = 0;
  std::size_t size_ = 0;
};

}  // namespace consort::runtime
