// DeadLetters: what could not be delivered, counted by reason, the last ones kept.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/event_loop.hpp"

namespace consort::runtime {

class DeadLetters {
 public:
  void note(DeadLetter letter);
  std::uint64_t count(ErrorKind reason) const { return counts_[static_cast<std::size_t>(reason)]; }
  std::vector<DeadLetter> recent() const;  // oldest first

 private:
  static constexpr std::size_t kKept = 1024;  // 48 KB: enough to see what led to a fault
  std::array<std::uint64_t, kErrorKindCount + 1> counts_{};
  std::vector<DeadLetter> ring_;
  std::size_t next_ = 0;
};

}  // namespace consort::runtime
