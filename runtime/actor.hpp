// Actor: an object whose handlers run to completion on one event loop. No locks, no blocking calls, no coroutines.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "runtime/callback.hpp"
#include "runtime/env.hpp"
#include "runtime/ids.hpp"
#include "runtime/message.hpp"
#include "runtime/protocol.hpp"

namespace consort::runtime {

class EventLoop;

// How a message travels; the defaults are right for most.
struct SendOptions {
  std::optional<MessageClass> message_class;  // instead of the message's own
  Epoch epoch;                                // placement epoch, where the receiver checks it
};

// The open end of an ask. then() must be called on it, once, in the same turn.
template <Message R>
class [[nodiscard]] PendingAsk {
 public:
  PendingAsk(EventLoop& loop, std::uint64_t slot) : loop_(&loop), slot_(slot) {}
  // handler(Outcome<R>) runs exactly once, as a turn of the asking actor, never inline; not at all if that actor ends
  // first. Captures: by value, plus the actor itself.
  template <class F>
  requires std::is_invocable_v<F&, Outcome<R>> std::uint64_t then(F handler) &&;

 private:
  EventLoop* loop_;
  std::uint64_t slot_;
};

struct Down {
  ActorRef actor;
  Error reason;
};

// What a supervisor does when a child ends by failure (Erlang/OTP's words).
enum class Restart : std::uint8_t { kOneForOne, kOneForAll, kRestForOne };
struct Supervision {
  Restart restart = Restart::kOneForOne;
  int intensity = 3;                           // more restarts than this ...
  Duration window = std::chrono::seconds(60);  // ... within this time escalate: the supervisor itself fails
  Duration first_backoff = std::chrono::milliseconds(200);
  Duration last_backoff = std::chrono::seconds(30);
};

class Actor {
 public:
  Actor() = default;
  virtual ~Actor() = default;
  Actor(const Actor&) = delete;
  Actor& operator=(const Actor&) = delete;

 protected:
  // Before the first message; after the last. self(), tell and ask work in on_start, not in the constructor.
  virtual void on_start() {}
  virtual void on_stop() {}
  virtual Supervision supervision() const { return {}; }

  ActorRef self() const { return self_; }
  Instant now() const;
  Env& env() const;
  EventLoop& loop() const { return *loop_; }

  // At most once, in order per (sender, receiver, class). What cannot be delivered is a dead letter.
  template <class P, Message M>
  void tell(const RefTo<P>& to, M message, SendOptions options = {});
  // A reply or one error of the closed list, exactly once, by the deadline.
  template <class P, Request M>
  PendingAsk<typename M::Reply> ask(const RefTo<P>& to, M message, Duration deadline, SendOptions options = {});
  // Cancels an ask by what then() returned: its handler gets kCancelled.
  void cancel_ask(std::uint64_t ask);

  TimerId after(Duration delay, Callback<void()> callback);
  void cancel(TimerId timer);
  // callback(Down) once: at once-as-a-turn where the actor is already gone, or when it or its node goes.
  void monitor(ActorRef actor, Callback<void(Down)> callback);
  // Runs work on env().device; `then` comes back as a turn of this actor, unless it has ended.
  void compute(DeviceWork work, MessageClass urgency, Callback<void()> then);
  // Hands a callback to code that completes elsewhere (a disk): calling the result posts a turn of this actor.
  template <class T>
  std::function<void(T)> as_turn(Callback<void(T)> callback);

  // A child of this actor, restarted by supervision() when it fails. Its id keeps type and index over restarts.
  ActorRef spawn(std::uint16_t type, std::uint32_t index, std::function<std::unique_ptr<Actor>()> make);
  void stop();              // this actor ends well after this turn
  void fail(Error reason);  // this actor ends by failure after this turn; its supervisor decides

 private:
  friend class EventLoop;
  template <class Self, class P>
  friend class ActorOf;
  // One message; answers through incoming.route. Implemented by ActorOf.
  virtual void receive(Incoming incoming) = 0;

  EventLoop* loop_ = nullptr;
  ActorRef self_;
};

// An actor that handles the messages of protocol P: on(M) for Tell<M>, on(M, ReplyTo<M::Reply>) for Ask<M>. A handler
// may also take `const Context&` last. A missing handler or a wrong reply type does not compile.
template <class Self, class P>
class ActorOf : public Actor {
 public:
  using Protocol = P;

 private:
  void receive(Incoming incoming) final { P::dispatch(static_cast<Self&>(*this), std::move(incoming)); }
};

}  // namespace consort::runtime

#include "runtime/actor-inl.hpp"
