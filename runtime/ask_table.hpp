// AskTable: the asks that wait for their answer. Slot and generation are the correlation of an ask, so that a late or
// second answer meets a slot that is somebody else's or nobody's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "runtime/callback.hpp"
#include "runtime/env.hpp"
#include "runtime/ids.hpp"
#include "runtime/message.hpp"

namespace consort::runtime {

using AskContinuation = Callback<void(Outcome<MessageBody>)>;

class AskTable {
 public:
  struct Ask {
    ActorId asker;
    ActorRef target;
    MessageClass message_class = MessageClass::kSystem;
    MessageKind reply_kind = 0;
    bool remote = false;
    TimerId deadline = 0;
    AskContinuation continuation;
    std::optional<Outcome<MessageBody>> outcome;  // set once; the continuation runs later, as a turn
  };

  explicit AskTable(std::size_t limit) : limit_(limit) {}
  // 0: the table is full.
  std::uint64_t open(Ask ask);
  Ask* find(std::uint64_t slot);
  // Gives the slot free and hands out what was in it.
  Ask close(std::uint64_t slot);
  std::size_t size() const { return slots_.size() - free_.size(); }

  // In order of slots, so that runs repeat.
  std::vector<std::uint64_t> of_asker(ActorId asker) const;
  std::vector<std::uint64_t> at_node(NodeId node) const;

 private:
  struct Slot {
    std::uint32_t generation = 1;
    std::optional<Ask> ask;
  };
  static std::uint64_t name(std::uint32_t generation, std::size_t index) {
    return (std::uint64_t{generation} << 32) | index;
  }
  template <class Wanted>
  std::vector<std::uint64_t> all(Wanted wanted) const;

  const std::size_t limit_;
  std::deque<Slot> slots_;  // a deque: an Ask stays where it is while others open
  std::vector<std::uint32_t> free_;
};

}  // namespace consort::runtime
