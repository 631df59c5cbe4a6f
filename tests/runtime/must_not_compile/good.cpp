// The frame that the bad snippets fill: it must compile, so that they fail for their own reason.
#include "runtime/actor.hpp"

using namespace consort::runtime;

struct Pong {
  static constexpr MessageKind kKind = 1;
  static constexpr MessageClass kClass = MessageClass::kSystem;
  static constexpr bool kLocal = true;
};
struct Ping {
  static constexpr MessageKind kKind = 2;
  static constexpr MessageClass kClass = MessageClass::kSystem;
  static constexpr bool kLocal = true;
  using Reply = Pong;
};
using Pings = Protocol<Ask<Ping>, Tell<Pong>>;

struct Answerer final : ActorOf<Answerer, Pings> {
#if defined(REPLY_OF_ANOTHER_TYPE)
  void on(Ping, ReplyTo<Ping> reply) { reply.send({}); }
#else
  void on(Ping, ReplyTo<Pong> reply) { reply.send({}); }
#endif
#if !defined(NO_HANDLER)
  void on(Pong) {}
#endif
};

struct Asker final : ActorOf<Asker, Protocol<>> {
  void on_start() override {
    RefTo<Pings> to;
#if defined(NO_DEADLINE)
    ask(to, Ping{}).then([](Outcome<Pong>) {});
#elif defined(WRONG_ANSWER_EXPECTED)
    ask(to, Ping{}, std::chrono::seconds(1)).then([](Outcome<Ping>) {});
#elif defined(NOT_IN_THE_PROTOCOL)
    tell(to, Ping{});
#else
    ask(to, Ping{}, std::chrono::seconds(1)).then([](Outcome<Pong>) {});
    tell(to, Pong{});
#endif
  }
};

void use() {
  Answerer answerer;
  Asker asker;
}
