// Protocol<...>: the messages that an actor answers, checked at compile time; ReplyTo<R>: the answer that it owes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "runtime/ids.hpp"
#include "runtime/message.hpp"
#include "runtime/time.hpp"

namespace consort::runtime {

class EventLoop;

// The way back to an asker, on this node or another. One answer leaves through it; a late one is dropped there.
struct ReplyRoute {
  EventLoop* loop = nullptr;
  ActorRef asker;
  ActorId answerer;
  std::uint64_t correlation = 0;
  MessageClass message_class = MessageClass::kSystem;
  void reply(AnyMessage message) const;
  void reject(Error error) const;
};

// What a handler may know about a message beside its content.
struct Context {
  ActorRef source;
  Epoch epoch;
  MessageClass message_class = MessageClass::kSystem;
  Instant deadline;  // of an ask; Instant::max() for a tell
};

// The reply that a handler owes. Kept as long as needed, used once; dropped unused it rejects with kCancelled.
template <Message R>
class ReplyTo {
 public:
  ReplyTo() = default;
  explicit ReplyTo(ReplyRoute route) : route_(route) {}
  ReplyTo(ReplyTo&& other) noexcept : route_(std::exchange(other.route_, {})) {}
  ReplyTo& operator=(ReplyTo&& other) noexcept {
    if (this != &other) {
      drop();
      route_ = std::exchange(other.route_, {});
    }
    return *this;
  }
  ~ReplyTo() { drop(); }

  bool open() const { return route_.loop != nullptr; }
  void send(R reply) { take().reply(AnyMessage(std::move(reply))); }
  void reject(Error error) { take().reject(std::move(error)); }
  void settle(Outcome<R> outcome) {
    if (outcome.ok()) {
      send(std::move(outcome).value());
    } else {
      reject(std::move(outcome).error());
    }
  }

 private:
  ReplyRoute take() {
    CONSORT_CHECK(open());
    return std::exchange(route_, {});
  }
  void drop() {
    if (open()) take().reject({ErrorKind::kCancelled, "the actor ended without an answer"});
  }
  ReplyRoute route_;
};

// A message at its receiver.
struct Incoming {
  MessageKind kind = 0;
  bool is_ask = false;
  Context context;
  MessageBody body;
  ReplyRoute route;  // of an ask
};

// Counts and answers a message that its receiver cannot take (no such kind, or bytes that do not decode).
void refuse(Incoming& incoming, Error error);

template <Message M>
struct Tell {
  using Type = M;
  static constexpr bool kIsAsk = false;
  template <class Self>
  static void deliver(Self& self, Incoming incoming) {
    Outcome<M> message = open_body<M>(std::move(incoming.body));
    if (!message.ok()) return refuse(incoming, std::move(message).error());
    if constexpr (requires { self.on(std::move(message).value(), incoming.context); }) {
      self.on(std::move(message).value(), incoming.context);
    } else {
      static_assert(
          requires { self.on(std::move(message).value()); }, "the actor has no handler on(M) for a Tell<M>");
      self.on(std::move(message).value());
    }
  }
};

template <Request M>
struct Ask {
  using Type = M;
  static constexpr bool kIsAsk = true;
  template <class Self>
  static void deliver(Self& self, Incoming incoming) {
    Outcome<M> message = open_body<M>(std::move(incoming.body));
    if (!message.ok()) return refuse(incoming, std::move(message).error());
    ReplyTo<typename M::Reply> reply(incoming.route);
    if constexpr (requires { self.on(std::move(message).value(), std::move(reply), incoming.context); }) {
      self.on(std::move(message).value(), std::move(reply), incoming.context);
    } else {
      static_assert(
          requires { self.on(std::move(message).value(), std::move(reply)); },
          "the actor has no handler on(M, ReplyTo<M::Reply>) for an Ask<M>");
      self.on(std::move(message).value(), std::move(reply));
    }
  }
};

template <class... Entries>
struct Protocol {
  template <class M>
  static constexpr bool tells = ((std::is_same_v<M, typename Entries::Type> && !Entries::kIsAsk) || ...);
  template <class M>
  static constexpr bool asks = ((std::is_same_v<M, typename Entries::Type> && Entries::kIsAsk) || ...);

  template <class Self>
  static void dispatch(Self& self, Incoming incoming) {
    const bool known = (try_entry<Entries>(self, incoming) || ...);
    if (!known) refuse(incoming, {ErrorKind::kMalformed, "the actor does not take this message"});
  }

 private:
  template <class Entry, class Self>
  static bool try_entry(Self& self, Incoming& incoming) {
    if (incoming.kind != Entry::Type::kKind || incoming.is_ask != Entry::kIsAsk) return false;
    Entry::deliver(self, std::move(incoming));
    return true;
  }
};

// A reference that knows what its actor answers.
template <class P>
struct RefTo {
  ActorRef ref;
  constexpr auto operator<=>(const RefTo&) const = default;
};

}  // namespace consort::runtime
