// StepPace: how long one Decoder's steps take, and how many prompt rows may run beside those that decode.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "runtime/time.hpp"

namespace consort::actors {

// Pure: what was measured in, a number of rows out. Bits do not depend on it, only the pace does.
class StepPace {
 public:
  // Prompt rows may lengthen a step by this share: the gap between tokens stays below twice that of a quiet run, with a
  // little room for chance.
  static constexpr double kAllowedDelay = 0.7;
  // A prompt must get on, however slow its rows are. Where one row of a long prompt costs as much as a whole step of
  // decoding, as with a small model, 8 of them made the gap 2.0 times that of a quiet run, 2 made it 1.4 times.
  static constexpr std::uint32_t kLeastPromptRows = 2;
  static constexpr std::uint32_t kFirstPromptRows = 16;  // before anything was measured
  static constexpr double kWeight = 0.2;                 // of the newest measurement in a running mean

  void measured(std::uint32_t decode_rows, std::uint32_t prompt_rows, runtime::Duration length);
  // For a step that also decodes this many rows; `most` where none decodes.
  std::uint32_t prompt_rows(std::uint32_t decode_rows, std::uint32_t most) const;
  // Rows of any kind, while steps run; 0: not known yet.
  double rows_per_second() const { return seconds_ > 0 ? rows_ / seconds_ : 0; }

 private:
  // Steps that only decode, by the power of two of their rows: 1, 2-3, 4-7, ...
  static constexpr std::size_t kSizes = 10;
  static std::size_t size_of(std::uint32_t decode_rows);
  double quiet_seconds(std::uint32_t decode_rows) const;  // of the nearest size known; 0: none

  std::array<double, kSizes> quiet_{};  // seconds
  double row_seconds_ = 0;              // that a prompt row adds
  bool row_is_guessed_ = true;          // from steps without decoding, which say too much
  double rows_ = 0, seconds_ = 0;       // decaying sums
};

}  // namespace consort::actors
