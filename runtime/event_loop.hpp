// EventLoop: one pinned thread that runs actors: its inbox, their queues by class, asks, timers, event sources.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/callback.hpp"
#include "runtime/env.hpp"
#include "runtime/ids.hpp"
#include "runtime/message.hpp"
#include "runtime/protocol.hpp"

namespace consort::runtime {

class Actor;
struct Down;

// Bounds of one loop. All are counts of messages unless named otherwise.
struct LoopLimits {
  std::size_t system_queue = 65536;  // per actor and class: beyond it an asker gets kExhausted
  std::size_t other_queue = 4096;
  std::size_t asks = 1u << 16;       // outstanding at once
};

// What leaves for another node. Answered by DeadLetters where there is no cluster, by cluster/post_office in one.
struct Outgoing {
  ActorRef target;
  ActorRef source;
  FrameType type = FrameType::kTell;
  MessageClass message_class = MessageClass::kSystem;
  MessageKind kind = 0;
  Epoch epoch;
  std::uint64_t correlation = 0;
  Instant deadline = Instant::max();
  WireMessage message;
};
class RemoteDelivery {
 public:
  virtual ~RemoteDelivery() = default;
  // An ask that is not accepted completes with this error.
  virtual Status deliver(Outgoing outgoing) = 0;
};

// Posts turns from any thread; outlives its loop (then it drops what it gets).
class Poster {
 public:
  Poster() = default;
  void post(ActorId actor, std::function<void()> turn) const;  // a turn of that actor, dropped when it has ended
  void post(std::function<void()> turn) const;

 private:
  friend class EventLoop;
  struct Inbox;
  std::shared_ptr<Inbox> inbox_;
};

// A message that could not be delivered: counted by reason, the last 1024 kept.
struct DeadLetter {
  ErrorKind reason = ErrorKind::kNoActor;
  MessageKind kind = 0;
  ActorRef source;
  ActorRef target;
};

// What a loop has done so far.
struct LoopCounts {
  std::uint64_t turns = 0;
  std::uint64_t stalls = 0;       // turns longer than 1 ms, or 5 ms in class system: something blocked the loop
  Duration longest_turn{0};
  std::uint64_t sleeps = 0;
};

class EventLoop final : public Timers {
 public:
  // identity: node and incarnation of this process; an incarnation of 0 means "not joined".
  EventLoop(NodeId node, LoopLimits limits = {});
  ~EventLoop() override;
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Once, before anything else runs. The env holds this loop as its Timers.
  void set_env(Env& env);
  Env& env() const { return *env_; }
  void set_remote(RemoteDelivery* remote) { remote_ = remote; }
  NodeId node() const { return node_; }
  Incarnation incarnation() const { return incarnation_; }
  Instant now() const;  // read once per turn
  void set_incarnation(Incarnation incarnation);  // refs of local actors change with it
  void add_source(EventSource& source);
  void remove_source(EventSource& source);

  // A root actor; its failure beyond its own restarts terminates the process. type/index name it for other nodes: an
  // ActorId with generation 0 addresses whoever lives at (type, index).
  ActorRef spawn_root(std::uint16_t type, std::uint32_t index, std::function<std::unique_ptr<Actor>()> make);
  void stop_actor(ActorId actor);

  // --- turns -------------------------------------------------------------------------------------------------
  // Real: turns until stop(); sleeps when idle (at most 10 ms), spins first only where `spin` is not zero.
  void run(Duration spin);
  // The same until `done` holds (asked after every turn and every sleep) or the deadline has passed; true: it holds.
  bool run_until(const std::function<bool()>& done, Instant deadline);
  void stop();  // from any thread
  // One round: sources, inbox, due timers, actors by class budget. True: something was done.
  bool turn();
  // Simulated: exactly one handler turn, chosen by `rng` among the actors that are ready; false: none is.
  bool run_one(Rng& rng);
  bool has_ready() const;
  bool fire_one_timer();                         // the earliest timer, if due
  std::optional<Instant> next_timer() const;
  void drain_inbox();

  // --- timers ------------------------------------------------------------------------------------------------
  TimerId at(Instant when, std::function<void()> callback) override;
  void cancel(TimerId id) override;

  // --- messages (Actor and RemoteDelivery call these) ---------------------------------------------------------
  void send_tell(ActorRef source, ActorRef target, MessageClass message_class, Epoch epoch, AnyMessage message);
  std::uint64_t send_ask(ActorRef source, ActorRef target, MessageClass message_class, Epoch epoch, Duration deadline,
                         MessageKind reply_kind, AnyMessage message);
  void set_continuation(std::uint64_t slot, Callback<void(Outcome<MessageBody>)> continuation);
  void cancel_ask(std::uint64_t slot);
  void send_reply(const ReplyRoute& route, Outcome<AnyMessage> outcome);
  // A frame from another node, already checked by the post office (incarnation, token, credit).
  void receive_remote(const FrameHeader& header, WireMessage message);
  // Completes what is outstanding at a peer with kPeerDown (or why.kind) and fires monitors.
  void peer_down(NodeId peer, Error why);
  // The wire broke, and the peer may live: completes what is outstanding there, as peer_down() does, but no monitor fires.
  void asks_lost(NodeId peer, Error why);
  // The wire is up again: what was said of watched actors may have been lost with it, and is said again.
  void watch_again(NodeId peer);

  void monitor(ActorId watcher, ActorRef target, Callback<void(Down)> callback);
  TimerId actor_timer(ActorId actor, Duration delay, Callback<void()> callback);
  void actor_compute(ActorId actor, DeviceWork work, MessageClass urgency, Callback<void()> then);
  ActorRef spawn_child(ActorId parent, std::uint16_t type, std::uint32_t index,
                       std::function<std::unique_ptr<Actor>()> make);
  void actor_ends(ActorId actor, std::optional<Error> failure);  // after the running turn
  Poster poster() const;

  // --- what the checkers read ----------------------------------------------------------------------------------
  std::size_t outstanding_asks() const;
  LoopCounts counts() const;
  std::uint64_t dead_letter_count(ErrorKind reason) const;
  std::vector<DeadLetter> recent_dead_letters() const;
  void note_dead_letter(DeadLetter letter);
  // Called after every handler turn (actor, kind): the simulator hashes it.
  void set_observer(std::function<void(ActorId, MessageKind)> observer);

 private:
  struct State;
  std::unique_ptr<State> state_;
  Env* env_ = nullptr;
  RemoteDelivery* remote_ = nullptr;
  NodeId node_;
  Incarnation incarnation_;
};

}  // namespace consort::runtime
