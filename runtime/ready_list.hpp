// ReadyList: the actors that have something to do, by class. System goes first; the other classes share the turns
// 8:4:1, so that a background transfer never stops a decode step and still ends.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <deque>
#include <optional>

#include "runtime/actor_table.hpp"
#include "runtime/env.hpp"

namespace consort::runtime {

class ReadyList {
 public:
  void add(ActorCell& cell, MessageClass message_class);
  void remove(ActorCell& cell);
  bool empty() const;

  struct Next {
    ActorCell* cell = nullptr;
    MessageClass message_class = MessageClass::kSystem;
  };
  // Takes the cell whose turn it is: of the class that is due, the one that waits longest, or any by chance.
  std::optional<Next> take(Rng* rng);

 private:
  static constexpr std::array<int, kMessageClassCount> kTurns{0, 8, 4, 1};  // of 13; system is not counted
  std::optional<std::size_t> due_class();

  std::array<std::deque<ActorCell*>, kMessageClassCount> ready_;
  std::array<int, kMessageClassCount> turns_left_ = kTurns;
};

}  // namespace consort::runtime
