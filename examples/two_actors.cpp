// Two actors on one loop: a Kitchen that bakes, and a Guest who asks for bread and does not wait for ever.
// SPDX-License-Identifier: Apache-2.0
//
// Build and run:  ninja -C build/release example_two_actors && build/release/example_two_actors
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>

#include "runtime/actor.hpp"
#include "runtime/event_loop.hpp"
#include "runtime/posix/posix_clock.hpp"
#include "runtime/trace.hpp"

using namespace std::chrono_literals;
namespace rt = consort::runtime;

// A message is a plain struct with a kind and a class. A request names its reply. These stay on their node (kLocal);
// messages that travel have a Codec beside their Cap'n Proto schema.
struct Bread {
  static constexpr rt::MessageKind kKind = 0x7001;
  static constexpr rt::MessageClass kClass = rt::MessageClass::kDecode;
  static constexpr bool kLocal = true;
  int loaves = 0;
};
struct Order {
  static constexpr rt::MessageKind kKind = 0x7002;
  static constexpr rt::MessageClass kClass = rt::MessageClass::kDecode;
  static constexpr bool kLocal = true;
  using Reply = Bread;
  int loaves = 0;
};
struct Closing {
  static constexpr rt::MessageKind kKind = 0x7003;
  static constexpr rt::MessageClass kClass = rt::MessageClass::kSystem;
  static constexpr bool kLocal = true;
};

// What an actor answers is a type. A missing handler, or one that replies with something else, does not compile.
using KitchenProtocol = rt::Protocol<rt::Ask<Order>, rt::Tell<Closing>>;

class Kitchen final : public rt::ActorOf<Kitchen, KitchenProtocol> {
 public:
  // The reply may be kept and sent later: here when the bread is baked. Nothing waits meanwhile.
  void on(Order order, rt::ReplyTo<Bread> reply) {
    if (order.loaves > 10) return reply.reject({rt::ErrorKind::kExhausted, "the oven holds ten loaves"});
    const auto baking = order.loaves * 2ms;
    after(baking, [order, reply = std::move(reply)]() mutable { reply.send({order.loaves}); });
  }
  void on(Closing) {
    std::printf("kitchen: closing\n");
    stop();
  }
};

class Guest final : public rt::ActorOf<Guest, rt::Protocol<>> {
 public:
  Guest(rt::RefTo<KitchenProtocol> kitchen, int& bad) : kitchen_(kitchen), bad_(bad) {}

 private:
  void on_start() override {
    // Down comes once, however the kitchen ends.
    monitor(kitchen_.ref, [this](rt::Down down) {
      std::printf("guest: the kitchen is gone (%s)\n", describe(down.reason).c_str());
      if (answers_ != 3) ++bad_;
      loop().stop();
    });
    order(3, 1s, "3 loaves");
    order(50, 1s, "exhausted");  // refused, in words
    order(10, 5ms, "timed_out");  // bread for which nobody waits any more is dropped
  }

  // An ask has a deadline and one answer: a reply or one of eleven kinds of error, in a later turn of this actor.
  void order(int loaves, rt::Duration deadline, std::string expected) {
    ask(kitchen_, Order{loaves}, deadline).then([this, expected](rt::Outcome<Bread> bread) {
      const std::string got =
          bread.ok() ? std::to_string(bread->loaves) + " loaves" : std::string(name(bread.error().kind));
      std::printf("guest: %s\n", bread.ok() ? got.c_str() : describe(bread.error()).c_str());
      if (got != expected) ++bad_;
      if (++answers_ == 3) tell(kitchen_, Closing{});
    });
  }

  const rt::RefTo<KitchenProtocol> kitchen_;
  int& bad_;
  int answers_ = 0;
};

int main() {
  // Everything that is not computed enters through the env: here the real clock, seed and timers.
  rt::posix::PosixClock clock;
  rt::Rng rng(rt::posix::kernel_seed());
  rt::posix::ExitTerminator terminator;
  rt::Trace trace;
  rt::EventLoop loop{rt::NodeId{1}};
  rt::Env env{clock, rng, loop, terminator, trace};
  loop.set_env(env);

  int bad = 0;
  const rt::ActorRef kitchen = loop.spawn_root(1, 0, [] { return std::make_unique<Kitchen>(); });
  loop.spawn_root(2, 0, [&] { return std::make_unique<Guest>(rt::RefTo<KitchenProtocol>{kitchen}, bad); });
  loop.run(0ns);  // until stop(); sleeps while nothing is to do
  return bad == 0 ? 0 : 1;
}
