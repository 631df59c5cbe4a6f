// TimerQueue: one-shot timers by time, then by order of setting. An indexed heap, so that cancelling is cheap: most
// timers are deadlines of asks that are answered.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/callback.hpp"
#include "runtime/env.hpp"
#include "runtime/ids.hpp"

namespace consort::runtime {

class TimerQueue {
 public:
  // owner: the actor whose end cancels the timer, and whose turn the callback is.
  TimerId add(Instant when, std::optional<ActorId> owner, Callback<void()> callback);
  void cancel(TimerId id);
  void cancel_all_of(ActorId owner);

  std::size_t size() const { return heap_.size(); }
  std::optional<Instant> next() const;
  struct Due {
    std::optional<ActorId> owner;
    Callback<void()> callback;
  };
  // Takes the earliest timer, where it is due.
  std::optional<Due> pop_due(Instant now);

 private:
  struct Timer {
    Instant when;
    std::uint64_t sequence = 0;
    std::uint32_t generation = 1;
    std::uint32_t heap_place = kNotInHeap;
    std::optional<ActorId> owner;
    Callback<void()> callback;
  };
  static constexpr std::uint32_t kNotInHeap = ~std::uint32_t{0};

  bool earlier(std::uint32_t a, std::uint32_t b) const;
  void place(std::size_t at, std::uint32_t timer);
  void sift_up(std::size_t at);
  void sift_down(std::size_t at);
  Callback<void()> take(std::uint32_t timer);

  std::vector<Timer> timers_;  // by index; an id is generation and index
  std::vector<std::uint32_t> free_;
  std::vector<std::uint32_t> heap_;
  std::uint64_t sequence_ = 0;
};

}  // namespace consort::runtime
