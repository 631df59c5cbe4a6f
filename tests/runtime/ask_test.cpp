#include <algorithm>
#include <array>
#include <numeric>

#include "support/manual_env.hpp"
#include "support/test.hpp"
#include "test_messages.hpp"

namespace consort::tests {
namespace {

using namespace runtime;

struct Pair {
  Pair() {
    answerer = start_scribe(node.loop, 1, 0, diary);
    asker = start_scribe(node.loop, 1, 1, asker_diary);
    node.settle();
  }
  // Asks, and notes every outcome.
  std::uint64_t ask(ActorRef whom, int value, Duration deadline) {
    std::uint64_t name = 0;
    act(node.loop, *asker, [&, whom, value, deadline] {
      name = asker->ask(ScribeRef{whom}, Question{value}, deadline).then([this](Outcome<Number> n) {
        outcomes.push_back(std::move(n));
      });
    });
    Rng rng(1);
    while (name == 0) node.loop.run_one(rng);
    return name;
  }
  ErrorKind only_error() const {
    REQUIRE(outcomes.size() == 1);
    REQUIRE_FALSE(outcomes[0].ok());
    return outcomes[0].error().kind;
  }
  Diary diary;  // before the node: actors write to it as they go
  Diary asker_diary;
  ManualNode node;
  Scribe* answerer = nullptr;
  Scribe* asker = nullptr;
  std::vector<Outcome<Number>> outcomes;
};

TEST_CASE("an ask is answered as a later turn of the asker") {
  Pair pair;
  bool in_the_same_turn = true;
  act(pair.node.loop, *pair.asker, [&] {
    pair.asker->ask(ScribeRef{pair.answerer->self()}, Question{21}, 1s).then([&](Outcome<Number> n) {
      CHECK_FALSE(in_the_same_turn);
      pair.outcomes.push_back(n);
    });
    in_the_same_turn = false;
  });
  pair.node.settle();
  REQUIRE(pair.outcomes.size() == 1);
  CHECK(pair.outcomes[0].value().value == 42);
  CHECK(pair.node.loop.outstanding_asks() == 0);
  CHECK_FALSE(pair.node.loop.next_timer().has_value());
}

TEST_CASE("an ask of nobody is no_actor, also as a turn") {
  Pair pair;
  pair.ask({NodeId{1}, {}, {9, 0, 9}}, 1, 1s);
  CHECK(pair.outcomes.empty());
  pair.node.settle();
  CHECK(pair.only_error() == ErrorKind::kNoActor);
}

TEST_CASE("an ask without an answer times out at its deadline, and the late answer is dropped") {
  Pair pair;
  pair.answerer->keep = true;
  pair.ask(pair.answerer->self(), 1, 5ms);
  pair.node.pass(4999us);
  CHECK(pair.outcomes.empty());
  pair.node.pass(1us);
  CHECK(pair.only_error() == ErrorKind::kTimedOut);
  act(pair.node.loop, *pair.answerer, [&] { pair.answerer->kept[0].send({1}); });
  pair.node.settle();
  CHECK(pair.outcomes.size() == 1);
}

TEST_CASE("a late answer does not resolve the ask that took its slot") {
  Pair pair;
  pair.answerer->keep = true;
  const auto first = pair.ask(pair.answerer->self(), 1, 5ms);
  pair.node.pass(5ms);
  const auto second = pair.ask(pair.answerer->self(), 2, 1s);
  pair.node.settle();
  CHECK(static_cast<std::uint32_t>(first) == static_cast<std::uint32_t>(second));  // the same slot
  CHECK(first != second);
  act(pair.node.loop, *pair.answerer, [&] { pair.answerer->kept[0].send({111}); });
  pair.node.settle();
  CHECK(pair.outcomes.size() == 1);
  act(pair.node.loop, *pair.answerer, [&] { pair.answerer->kept[1].send({222}); });
  pair.node.settle();
  REQUIRE(pair.outcomes.size() == 2);
  CHECK(pair.outcomes[1].value().value == 222);
}

TEST_CASE("a message whose deadline has passed is not worked on") {
  Pair pair;
  pair.ask(pair.answerer->self(), 1, 5ms);
  pair.answerer->keep = true;
  pair.node.clock.advance(5ms);  // before the answerer had its turn
  pair.node.settle();
  CHECK(pair.only_error() == ErrorKind::kTimedOut);
  CHECK(pair.answerer->kept.empty());
}

TEST_CASE("a dropped ReplyTo answers cancelled, and so does the end of the actor that owes it") {
  Pair pair;
  pair.answerer->keep = true;
  pair.ask(pair.answerer->self(), 1, 1s);
  pair.node.settle();
  act(pair.node.loop, *pair.answerer, [&] { pair.answerer->kept.clear(); });
  pair.node.settle();
  CHECK(pair.only_error() == ErrorKind::kCancelled);
  pair.outcomes.clear();
  pair.ask(pair.answerer->self(), 1, 1s);
  pair.node.settle();
  pair.node.loop.stop_actor(pair.answerer->self().actor);
  pair.node.settle();
  CHECK(pair.only_error() == ErrorKind::kCancelled);
}

TEST_CASE("an ask that waits in the queue of an actor that ends is no_actor") {
  Pair pair;
  act(pair.node.loop, *pair.answerer, [&] { pair.answerer->stop(); });
  act(pair.node.loop, *pair.asker, [&] {
    pair.asker->ask(ScribeRef{pair.answerer->self()}, Question{1}, 1s, {MessageClass::kBackground, {}})
        .then([&](Outcome<Number> n) { pair.outcomes.push_back(n); });
  });
  // The ask is queued (class background) when the stop (class system) is taken.
  Rng rng(1);
  while (pair.node.loop.has_ready()) pair.node.loop.run_one(rng);
  CHECK(pair.only_error() == ErrorKind::kNoActor);
}

TEST_CASE("the continuations of an actor that ended never run") {
  Pair pair;
  pair.answerer->keep = true;
  pair.ask(pair.answerer->self(), 1, 1s);
  pair.ask(pair.answerer->self(), 2, 1s);
  pair.node.settle();
  // One is answered already, but its turn has not come.
  Rng rng(1);
  act(pair.node.loop, *pair.answerer, [&] { pair.answerer->kept[0].send({1}); });
  REQUIRE(pair.node.loop.run_one(rng));
  REQUIRE(pair.node.loop.has_ready());
  pair.node.loop.stop_actor(pair.asker->self().actor);
  CHECK(pair.node.loop.outstanding_asks() == 0);
  act(pair.node.loop, *pair.answerer, [&] { pair.answerer->kept[1].send({1}); });
  pair.node.pass(2s);
  CHECK(pair.outcomes.empty());
}

TEST_CASE("an ask resolves exactly once under every order of reply, timeout, cancel and peer down") {
  std::array<int, 4> order{0, 1, 2, 3};
  int orders = 0;
  do {
    ++orders;
    Pair pair;
    const ActorRef away{NodeId{2}, Incarnation{5}, {4, 1, 0}};
    const auto name = pair.ask(away, 1, 10ms);
    REQUIRE(pair.node.remote.sent.size() == 1);
    const Outgoing sent = pair.node.remote.sent[0];
    CHECK(sent.correlation == name);
    const auto happen = [&](int what) {
      if (what == 0) {
        FrameHeader header;
        header.type = FrameType::kReply;
        header.kind = Number::kKind;
        header.source_node = NodeId{2};
        header.source_incarnation = Incarnation{5};
        header.target_actor = pair.asker->self().actor;
        header.correlation = sent.correlation;
        pair.node.loop.receive_remote(header, Codec<Number>::encode({77}).value());
      } else if (what == 1) {
        pair.node.clock.advance(10ms);
        pair.node.loop.fire_one_timer();
      } else if (what == 2) {
        pair.node.loop.cancel_ask(name);
      } else {
        pair.node.loop.peer_down(NodeId{2}, {ErrorKind::kPeerDown, "node 2 left"});
      }
    };
    // With and without turns between the four.
    const bool turns_between = orders % 2 == 0;
    for (const int what : order) {
      happen(what);
      CHECK(pair.outcomes.size() <= 1);
      if (turns_between) pair.node.settle();
    }
    pair.node.pass(1s);
    REQUIRE(pair.outcomes.size() == 1);
    const std::array<ErrorKind, 4> kinds{{{}, ErrorKind::kTimedOut, ErrorKind::kCancelled, ErrorKind::kPeerDown}};
    if (order[0] == 0) {
      CHECK(pair.outcomes[0].value().value == 77);
    } else {
      CHECK(pair.only_error() == kinds[static_cast<std::size_t>(order[0])]);
    }
    CHECK(pair.node.loop.outstanding_asks() == 0);
  } while (std::next_permutation(order.begin(), order.end()));
  CHECK(orders == 24);
}

// Asks the next question from within the answer to the last: depth must not grow.
struct Chain {
  Scribe& asker;
  ActorRef whom;
  int left;
  int done = 0;
  std::uintptr_t lowest = ~std::uintptr_t{0};
  std::uintptr_t highest = 0;
  void next() {
    char here;
    const auto at = reinterpret_cast<std::uintptr_t>(&here);
    lowest = std::min(lowest, at);
    highest = std::max(highest, at);
    if (left-- == 0) return;
    asker.ask(ScribeRef{whom}, Question{1}, 1s).then([this](Outcome<Number> n) {
      if (n.ok()) ++done;
      next();
    });
  }
};

TEST_CASE("1e6 chained asks keep constant stack depth") {
  Pair pair;
  constexpr int kAsks = 1'000'000;
  Chain chain{*pair.asker, pair.answerer->self(), kAsks};
  act(pair.node.loop, *pair.asker, [&] { chain.next(); });
  pair.node.settle();
  CHECK(chain.done == kAsks);
  CHECK(chain.highest - chain.lowest < 4096);  // one frame more or less: the first call is from another depth
}

}  // namespace
}  // namespace consort::tests
