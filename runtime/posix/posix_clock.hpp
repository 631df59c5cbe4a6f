// The real clock, the real seed and the real end of a process.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "runtime/env.hpp"

namespace consort::runtime::posix {

class PosixClock final : public Clock {
 public:
  Instant now() const override;  // CLOCK_MONOTONIC
  std::int64_t unix_ns() const override;
};

// 64 bits from the kernel's generator.
std::uint64_t kernel_seed();

// Writes one line to standard error and leaves at once with code 1, without destructors: whoever must not go on is not
// asked to finish what it was doing.
class ExitTerminator final : public Terminator {
 public:
  void terminate(std::string_view why) override;
};

}  // namespace consort::runtime::posix
