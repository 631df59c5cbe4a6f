// EventLoop::State: the parts of a loop and what its sources (messages, lives, turns) do with them. Private to runtime.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/actor_table.hpp"
#include "runtime/ask_table.hpp"
#include "runtime/dead_letters.hpp"
#include "runtime/event_loop.hpp"
#include "runtime/inbox.hpp"
#include "runtime/ready_list.hpp"
#include "runtime/timer_queue.hpp"

namespace consort::runtime {

inline constexpr MessageKind kRuntimeKind = 0;  // error replies, and what nodes tell each other of watched actors

struct EventLoop::State {
  State(EventLoop& owner, LoopLimits bounds) : loop(owner), limits(bounds), asks(bounds.asks) {}

  EventLoop& loop;
  const LoopLimits limits;
  Instant now{};  // read once per turn
  ActorTable actors;
  ReadyList ready;
  AskTable asks;
  TimerQueue timers;
  DeadLetters dead;
  std::shared_ptr<Poster::Inbox> inbox = std::make_shared<Poster::Inbox>();
  std::vector<EventSource*> sources;
  std::uint64_t sources_version = 0;
  std::atomic<bool> stopping{false};
  std::function<void(ActorId, MessageKind)> observer;
  LoopCounts counts;

  // --- turns (loop_turns.cpp) ---
  bool in_turn = false;
  ActorCell* current = nullptr;  // whose turn it is; null: nobody's in particular
  void read_clock();
  // Runs `body` as a turn of `cell` (null: of nobody), then what it put off: ends of actors.
  template <class Body>
  void run_turn(ActorCell* cell, MessageClass message_class, MessageKind kind, Body body);
  void note_turn(ActorId actor, MessageClass message_class, MessageKind kind);
  void take_item(ActorCell& cell, MessageClass message_class);
  bool fire_due_timer();
  bool take_posted();
  bool run_ready(Rng* rng);
  void enqueue(ActorCell& cell, MessageClass message_class, ActorItem item);

  // --- messages (loop_messages.cpp) ---
  bool is_here(const ActorRef& ref) const;
  // Why ref is not one of this life of this node, if so.
  std::optional<Error> stale(const ActorRef& ref) const;
  Status deliver_here(ActorId target, Incoming incoming);
  Status deliver_away(Outgoing outgoing, const AnyMessage& message);
  void complete(std::uint64_t slot, Outcome<MessageBody> outcome);
  void complete_from(NodeId node, const FrameHeader& header, Outcome<MessageBody> outcome);
  void answer(const ReplyRoute& route, Outcome<AnyMessage> outcome);
  std::optional<ActorId> over_limit_asker;  // of the last ask that found the table full

  // --- lives (loop_lives.cpp) ---
  struct Ending {
    ActorId actor;
    std::optional<Error> failure;
  };
  std::vector<Ending> endings;  // after the running turn
  ActorRef ref_of(const ActorCell& cell) const { return {loop.node_, loop.incarnation_, cell.id}; }
  ActorRef spawn(ActorCell* parent, std::uint16_t type, std::uint32_t index,
                 std::function<std::unique_ptr<Actor>()> make);
  void start(ActorCell& cell);
  void end_after_turn(ActorId actor, std::optional<Error> failure);
  void process_endings();
  // Ends this life: children first, latest first; then asks, timers, queues, the object, and the monitors hear of it.
  void end_life(ActorCell& cell, const Error& reason);
  void end_and_remove(ActorCell& cell, const Error& reason);
  void drop_queues(ActorCell& cell);
  void drop_asks(ActorCell& cell);
  void supervise(ActorCell& cell, const Error& failure);
  void restart(ActorId place, Restart how);

  // --- monitors (loop_monitors.cpp) ---
  struct AwayMonitor {
    std::uint64_t token = 0;
    LocalMonitor monitor;
  };
  std::map<NodeId, std::vector<AwayMonitor>> away_monitors;
  std::uint64_t next_monitor_token = 1;
  Status send_watch(ActorRef source, ActorRef target, WireMessage message);
  void monitor_away(LocalMonitor monitor);
  void receive_watch(const FrameHeader& header, std::span<const std::byte> metadata);
  void drop_away_monitors(ActorId watcher);
  void tell_down(LocalMonitor monitor, const Error& reason);
  void fire_monitors(ActorCell& cell, const Error& reason);
};

}  // namespace consort::runtime
