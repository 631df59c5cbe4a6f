// Who plays in the tests of the simulated world: a counter, those who ask it, and a post office in its simplest form.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/actor.hpp"
#include "runtime/simulated/world.hpp"

namespace consort::runtime::cast {

using namespace std::chrono_literals;

// --- messages: eight bytes of metadata, and a payload ---------------------------------------------------------------
struct Counted {
  static constexpr MessageKind kKind = 0x0F02;
  static constexpr MessageClass kClass = MessageClass::kDecode;
  std::uint64_t value = 0;
};
struct Count {
  static constexpr MessageKind kKind = 0x0F01;
  static constexpr MessageClass kClass = MessageClass::kDecode;
  using Reply = Counted;
  std::uint64_t value = 0;
  Buffer payload;
};
struct Note {
  static constexpr MessageKind kKind = 0x0F03;
  static constexpr MessageClass kClass = MessageClass::kDecode;
  std::uint64_t value = 0;
  Buffer payload;
};

inline WireMessage to_wire(std::uint64_t value, Buffer payload = {}) {
  WireMessage wire;
  wire.metadata.resize(8);
  std::memcpy(wire.metadata.data(), &value, 8);
  wire.payload = std::move(payload);
  return wire;
}
inline Outcome<std::uint64_t> from_wire(std::span<const std::byte> metadata) {
  if (metadata.size() != 8) return failure(ErrorKind::kMalformed, "not a number");
  std::uint64_t value;
  std::memcpy(&value, metadata.data(), 8);
  return value;
}

}  // namespace consort::runtime::cast

namespace consort::runtime {
template <>
struct Codec<cast::Count> {
  static Outcome<WireMessage> encode(const cast::Count& m) { return cast::to_wire(m.value, m.payload); }
  static Outcome<cast::Count> decode(std::span<const std::byte> metadata, Buffer payload) {
    CONSORT_TRY(const auto value, cast::from_wire(metadata));
    return cast::Count{value, std::move(payload)};
  }
};
template <>
struct Codec<cast::Counted> {
  static Outcome<WireMessage> encode(const cast::Counted& m) { return cast::to_wire(m.value); }
  static Outcome<cast::Counted> decode(std::span<const std::byte> metadata, Buffer) {
    CONSORT_TRY(const auto value, cast::from_wire(metadata));
    return cast::Counted{value};
  }
};
template <>
struct Codec<cast::Note> {
  static Outcome<WireMessage> encode(const cast::Note& m) { return cast::to_wire(m.value, m.payload); }
  static Outcome<cast::Note> decode(std::span<const std::byte> metadata, Buffer payload) {
    CONSORT_TRY(const auto value, cast::from_wire(metadata));
    return cast::Note{value, std::move(payload)};
  }
};
}  // namespace consort::runtime

namespace consort::runtime::cast {

using CounterProtocol = Protocol<Ask<Count>, Tell<Note>>;
inline constexpr ActorId kCounter{1, 0, 0};
inline constexpr ActorId kAsker{2, 0, 0};

// Answers with the value and one more; keeps the notes in order of arrival.
class Counter final : public ActorOf<Counter, CounterProtocol> {
 public:
  explicit Counter(std::vector<std::uint64_t>* notes = nullptr) : notes_(notes) {}
  void on(Count count, ReplyTo<Counted> reply) { reply.send(Counted{count.value + 1}); }
  void on(Note note) {
    if (notes_ != nullptr) notes_->push_back(note.value);
  }

 private:
  std::vector<std::uint64_t>* notes_;
};

// What a scenario does from within an actor.
class Player final : public ActorOf<Player, Protocol<>> {
 public:
  explicit Player(std::function<void(Player&)> play) : play_(std::move(play)) {}
  using Actor::after;
  using Actor::as_turn;
  using Actor::ask;
  using Actor::compute;
  using Actor::env;
  using Actor::now;
  using Actor::tell;

 private:
  void on_start() override { play_(*this); }
  std::function<void(Player&)> play_;
};

// Between loop and link on one wire, without credits: what a real post office does is cluster's.
class TestPost final : public RemoteDelivery, public LinkSink {
 public:
  TestPost(EventLoop& loop, SimLink& link) : loop_(loop), link_(link) {
    link.attach(*this);
    loop.set_remote(this);
  }
  ~TestPost() override { loop_.set_remote(nullptr); }
  Status deliver(Outgoing outgoing) override {
    Frame frame;
    FrameHeader& header = frame.header;
    header.message_class = outgoing.message_class;
    header.type = outgoing.type;
    header.kind = outgoing.kind;
    header.source_node = outgoing.source.node;
    header.source_incarnation = outgoing.source.incarnation;
    header.source_actor = outgoing.source.actor;
    header.target_incarnation = outgoing.target.incarnation;
    header.target_actor = outgoing.target.actor;
    header.epoch = outgoing.epoch;
    header.correlation = outgoing.correlation;
    if (outgoing.deadline != Instant::max()) {
      const auto left = (outgoing.deadline - loop_.env().clock.now()) / 1us;
      header.remaining_us = static_cast<std::uint32_t>(std::clamp<std::int64_t>(left, 1, 0xFFFFFFFF));
    }
    frame.metadata = std::move(outgoing.message.metadata);
    frame.payload = std::move(outgoing.message.payload);
    return link_.send(outgoing.target.node, std::move(frame));
  }
  void on_frame(NodeId, Frame frame) override {
    const Incarnation target = frame.header.target_incarnation;
    if (target.value != 0 && target != loop_.incarnation()) {
      ++stale;
      return;
    }
    loop_.receive_remote(frame.header, {std::move(frame.metadata), std::move(frame.payload)});
  }
  void on_peer(NodeId peer, PeerChange change, std::string_view why) override {
    changes.push_back({peer, change, std::string(why), loop_.env().clock.now()});
    if (change == PeerChange::kLost) loop_.peer_down(peer, {ErrorKind::kPeerDown, std::string(why)});
  }

  struct Change {
    NodeId peer;
    PeerChange change;
    std::string why;
    Instant when;
  };
  std::vector<Change> changes;
  std::uint64_t stale = 0;

 private:
  EventLoop& loop_;
  SimLink& link_;
};

// A node whose incarnation is the index of its process, with a post office on the data wire and a counter.
inline SimBoot counter_boot(std::vector<std::uint64_t>* notes = nullptr, std::map<NodeId, TestPost*>* posts = nullptr) {
  return [notes, posts](SimProcess& process) -> std::shared_ptr<void> {
    const Incarnation incarnation(static_cast<std::uint32_t>(process.id()));
    process.loop().set_incarnation(incarnation);
    process.data().set_incarnation(incarnation);
    auto post = std::make_shared<TestPost>(process.loop(), process.data());
    if (posts != nullptr) (*posts)[process.node()] = post.get();
    process.loop().spawn_root(kCounter.type, kCounter.index, [notes] { return std::make_unique<Counter>(notes); });
    return post;
  };
}

inline Status introduce(SimProcess& from, SimProcess& to) {
  return from.data().connect(to.node(), to.loop().incarnation(), to.data().address(), to.data().token());
}
inline void introduce_all(const std::vector<SimProcess*>& nodes) {
  for (SimProcess* a : nodes) {
    for (SimProcess* b : nodes) {
      if (a != b) CONSORT_CHECK(introduce(*a, *b).ok());
    }
  }
}

inline RefTo<CounterProtocol> counter_of(SimProcess& process) {
  return {{process.node(), process.loop().incarnation(), kCounter}};
}
// Has an actor of that process do something at once. `index` must be new to that process.
inline void play(SimProcess& process, std::function<void(Player&)> what, std::uint32_t index = 0) {
  process.loop().spawn_root(kAsker.type, index, [what] { return std::make_unique<Player>(what); });
}
// An ask whose end is noted: its value, or its error.
struct Ends {
  std::vector<std::uint64_t> values;
  std::vector<Error> errors;
  std::size_t count() const { return values.size() + errors.size(); }
};
inline void ask(Player& player, const RefTo<CounterProtocol>& whom, std::uint64_t value, Duration deadline, Ends& ends,
                std::size_t payload_bytes = 0) {
  player.ask(whom, Count{value, Buffer::copy_of(std::vector<std::byte>(payload_bytes, std::byte{7}))}, deadline)
      .then([&ends](Outcome<Counted> answer) {
        if (answer.ok()) {
          ends.values.push_back(answer->value);
        } else {
          ends.errors.push_back(answer.error());
        }
      });
}

}  // namespace consort::runtime::cast
