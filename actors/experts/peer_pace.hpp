// PeerPace: how long a node's answers take, when one is late, and how many late ones may be asked for again elsewhere.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>

#include "runtime/time.hpp"

namespace consort::actors {

// Late is max(50 ms, 4 x p99); what is late is hedged within 5 % of the peer's dispatches per second, at least one
// (design, section 5), so that slowness does not breed load.
inline constexpr runtime::Duration kLateFloor = std::chrono::milliseconds(50);
inline constexpr int kLateFactor = 4;
inline constexpr double kHedgeShare = 0.05;

class PeerPace {
 public:
  void note_answer(runtime::Duration took);
  // Of the last answers; nothing is late before the peer is known.
  runtime::Duration late_after() const;

  void note_dispatch(runtime::Instant now);
  // Takes one hedge from this second's budget, if there is one left.
  bool take_hedge(runtime::Instant now);

 private:
  static constexpr std::size_t kWindow = 128;      // answers that p99 looks back on
  static constexpr std::size_t kFirstAnswers = 8;  // fewer say nothing: loading caches, first touch of weights
  static constexpr runtime::Duration kLateWhileUnknown = std::chrono::seconds(1);
  void roll(runtime::Instant now);

  std::array<runtime::Duration, kWindow> answers_{};
  std::size_t answer_count_ = 0;
  runtime::Instant second_begin_{};
  double dispatches_ = 0;         // in the running second
  double dispatches_before_ = 0;  // in the one before
  double hedges_ = 0;
};

}  // namespace consort::actors
