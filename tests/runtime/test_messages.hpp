// Messages and actors that the runtime's tests share.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/actor.hpp"

namespace consort::tests {

using namespace std::chrono_literals;
using runtime::Outcome;

struct Number {
  static constexpr runtime::MessageKind kKind = 0x7F01;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kDecode;
  int value = 0;
};
struct Question {
  static constexpr runtime::MessageKind kKind = 0x7F02;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kDecode;
  using Reply = Number;
  int value = 0;
};
// A function to run inside an actor: how a test acts as one.
struct Act {
  static constexpr runtime::MessageKind kKind = 0x7F03;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kSystem;
  static constexpr bool kLocal = true;
  std::function<void()> run;
};

template <class M>
struct IntCodec {
  static Outcome<runtime::WireMessage> encode(const M& message) {
    runtime::WireMessage wire;
    wire.metadata.resize(sizeof message.value);
    std::memcpy(wire.metadata.data(), &message.value, sizeof message.value);
    return wire;
  }
  static Outcome<M> decode(std::span<const std::byte> metadata, runtime::Buffer) {
    M message;
    if (metadata.size() != sizeof message.value) {
      return runtime::failure(runtime::ErrorKind::kMalformed, "a number has four bytes");
    }
    std::memcpy(&message.value, metadata.data(), sizeof message.value);
    return message;
  }
};

}  // namespace consort::tests

template <>
struct consort::runtime::Codec<consort::tests::Number> : consort::tests::IntCodec<consort::tests::Number> {};
template <>
struct consort::runtime::Codec<consort::tests::Question> : consort::tests::IntCodec<consort::tests::Question> {};

namespace consort::tests {

using Numbers = runtime::Protocol<runtime::Tell<Number>, runtime::Ask<Question>, runtime::Tell<Act>>;

// What an actor of these tests did, kept outside it so that it outlives restarts.
struct Diary {
  std::vector<int> numbers;
  std::vector<std::string> events;  // "start", "stop", "gone"
};

// Notes numbers; answers questions with twice their value, unless told to keep them.
class Scribe : public runtime::ActorOf<Scribe, Numbers> {
 public:
  explicit Scribe(Diary& diary, std::string name = {}) : diary_(diary), name_(std::move(name)) {}
  ~Scribe() override { diary_.events.push_back(name_ + "gone"); }

  void on(Number number) { diary_.numbers.push_back(number.value); }
  void on(Question question, runtime::ReplyTo<Number> reply) {
    if (keep) {
      kept.push_back(std::move(reply));
      return;
    }
    reply.send({2 * question.value});
  }
  void on(Act act) { act.run(); }

  using Actor::after;
  using Actor::as_turn;
  using Actor::ask;
  using Actor::cancel;
  using Actor::cancel_ask;
  using Actor::compute;
  using Actor::fail;
  using Actor::monitor;
  using Actor::now;
  using Actor::self;
  using Actor::spawn;
  using Actor::stop;
  using Actor::tell;

  bool keep = false;
  std::vector<runtime::ReplyTo<Number>> kept;
  runtime::Supervision rule;
  std::function<void(Scribe&)> begin;

 private:
  void on_start() override {
    diary_.events.push_back(name_ + "start");
    if (begin) begin(*this);
  }
  void on_stop() override { diary_.events.push_back(name_ + "stop"); }
  runtime::Supervision supervision() const override { return rule; }

  Diary& diary_;
  std::string name_;
};

using ScribeRef = runtime::RefTo<Numbers>;

// Starts a root Scribe and gives its object, which the test may use until the actor ends.
inline Scribe* start_scribe(runtime::EventLoop& loop, std::uint16_t type, std::uint32_t index, Diary& diary,
                            std::string name = {}, std::function<void(Scribe&)> begin = {}) {
  Scribe* made = nullptr;
  Scribe** out = &made;
  loop.spawn_root(type, index, [&diary, name, begin, out]() mutable {
    auto scribe = std::make_unique<Scribe>(diary, name);
    scribe->begin = begin;
    if (out != nullptr) *std::exchange(out, nullptr) = scribe.get();
    return scribe;
  });
  return made;
}

// Runs `run` as a turn of that actor.
inline void act(runtime::EventLoop& loop, const Scribe& scribe, std::function<void()> run) {
  loop.send_tell({}, scribe.self(), runtime::MessageClass::kSystem, {}, runtime::AnyMessage(Act{std::move(run)}));
}
inline void tell(runtime::EventLoop& loop, runtime::ActorRef to, int value,
                 runtime::MessageClass message_class = Number::kClass) {
  loop.send_tell({}, to, message_class, {}, runtime::AnyMessage(Number{value}));
}

}  // namespace consort::tests
