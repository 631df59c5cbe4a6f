#include <algorithm>

#include "runtime/error_reply.hpp"
#include "support/manual_env.hpp"
#include "support/test.hpp"
#include "test_messages.hpp"

namespace consort::tests {
namespace {

using namespace runtime;

TEST_CASE("an actor takes messages in the order in which they were sent") {
  Diary diary;
  ManualNode node;
  Scribe* scribe = start_scribe(node.loop, 1, 0, diary);
  for (int i = 0; i < 100; ++i) tell(node.loop, scribe->self(), i);
  node.settle();
  REQUIRE(diary.numbers.size() == 100);
  CHECK(std::is_sorted(diary.numbers.begin(), diary.numbers.end()));
  CHECK(diary.events == std::vector<std::string>{"start"});
}

TEST_CASE("order holds per sender, receiver and class also when the next actor is drawn by chance") {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    Diary diaries[3];
    ManualNode node;
    Rng rng(seed);
    Scribe* scribes[3];
    for (std::uint32_t i = 0; i < 3; ++i) scribes[i] = start_scribe(node.loop, 1, i, diaries[i]);
    for (int n = 0; n < 60; ++n) {
      const auto message_class = static_cast<MessageClass>(1 + n % 3);
      tell(node.loop, scribes[n % 3]->self(), n, message_class);
      tell(node.loop, scribes[(n + 1) % 3]->self(), n, message_class);
    }
    while (node.loop.run_one(rng)) {
    }
    for (const auto& diary : diaries) {
      REQUIRE(diary.numbers.size() == 40);
      for (int c = 0; c < 3; ++c) {
        std::vector<int> of_class;
        for (const int n : diary.numbers) {
          if (n % 3 == c) of_class.push_back(n);
        }
        CHECK(std::is_sorted(of_class.begin(), of_class.end()));
      }
    }
  }
}

TEST_CASE("system messages go first and the other classes share the turns 8:4:1") {
  Diary diary;
  ManualNode node;
  std::vector<MessageClass> taken;
  // One actor per class, so that only the loop's choice shows.
  Scribe* scribes[kMessageClassCount];
  for (std::uint32_t c = 0; c < kMessageClassCount; ++c) scribes[c] = start_scribe(node.loop, 1, c, diary);
  node.settle();
  node.loop.set_observer([&](ActorId actor, MessageKind) { taken.push_back(static_cast<MessageClass>(actor.index)); });
  for (std::uint32_t c = kMessageClassCount; c-- > 0;) {
    for (int i = 0; i < 130; ++i) tell(node.loop, scribes[c]->self(), i, static_cast<MessageClass>(c));
  }
  Rng rng(7);
  for (int i = 0; i < 130; ++i) {
    REQUIRE(node.loop.run_one(rng));
    CHECK(taken.back() == MessageClass::kSystem);
  }
  taken.clear();
  for (int i = 0; i < 130; ++i) REQUIRE(node.loop.run_one(rng));
  CHECK(std::count(taken.begin(), taken.end(), MessageClass::kDecode) == 80);
  CHECK(std::count(taken.begin(), taken.end(), MessageClass::kBulk) == 40);
  CHECK(std::count(taken.begin(), taken.end(), MessageClass::kBackground) == 10);
  node.settle();
  CHECK(diary.numbers.size() == 4 * 130);
}

TEST_CASE("run_one runs exactly one handler") {
  Diary diary;
  ManualNode node;
  Scribe* scribe = start_scribe(node.loop, 1, 0, diary);
  tell(node.loop, scribe->self(), 1);
  tell(node.loop, scribe->self(), 2);
  Rng rng(1);
  REQUIRE(node.loop.run_one(rng));
  CHECK(diary.events == std::vector<std::string>{"start"});
  CHECK(diary.numbers.empty());
  REQUIRE(node.loop.run_one(rng));
  CHECK(diary.numbers == std::vector<int>{1});
  REQUIRE(node.loop.run_one(rng));
  CHECK_FALSE(node.loop.has_ready());
  CHECK_FALSE(node.loop.run_one(rng));
}

TEST_CASE("a full queue answers the asker with exhausted, and a tell becomes a dead letter") {
  Diary diary;
  Diary other;
  ManualNode node(NodeId{1}, LoopLimits{.system_queue = 8, .other_queue = 4, .asks = 64});
  Scribe* answerer = start_scribe(node.loop, 1, 0, diary);
  Scribe* asker = start_scribe(node.loop, 1, 1, other);
  node.settle();
  std::vector<Outcome<Number>> outcomes;
  act(node.loop, *asker, [&] {
    for (int i = 0; i < 6; ++i) {
      asker->ask(ScribeRef{answerer->self()}, Question{i}, 1s).then([&](Outcome<Number> n) { outcomes.push_back(n); });
    }
    asker->tell(ScribeRef{answerer->self()}, Number{9});
  });
  node.settle();
  REQUIRE(outcomes.size() == 6);
  int exhausted = 0;
  for (const auto& outcome : outcomes) {
    if (outcome.ok()) continue;
    CHECK(outcome.error().kind == ErrorKind::kExhausted);
    ++exhausted;
  }
  CHECK(exhausted == 2);
  CHECK(diary.numbers.empty());
  CHECK(node.loop.dead_letter_count(ErrorKind::kExhausted) == 3);
  CHECK(node.loop.outstanding_asks() == 0);
}

TEST_CASE("asks beyond the loop's table get exhausted as a turn, never silence") {
  Diary diary;
  Diary other;
  ManualNode node(NodeId{1}, LoopLimits{.system_queue = 64, .other_queue = 64, .asks = 3});
  Scribe* scribe = start_scribe(node.loop, 1, 0, diary);
  Scribe* asker = start_scribe(node.loop, 1, 1, other);
  node.settle();
  int answers = 0;
  int exhausted = 0;
  bool inline_call = false;
  act(node.loop, *asker, [&] {
    for (int i = 0; i < 5; ++i) {
      asker->ask(ScribeRef{scribe->self()}, Question{i}, 1s).then([&](Outcome<Number> n) {
        inline_call |= node.loop.outstanding_asks() == 5;
        if (n.ok()) ++answers;
        if (!n.ok() && n.error().kind == ErrorKind::kExhausted) ++exhausted;
      });
    }
    CHECK(answers + exhausted == 0);
  });
  node.settle();
  CHECK(answers == 3);
  CHECK(exhausted == 2);
}

TEST_CASE("messages to nobody and to an earlier generation are no_actor, generation 0 means whoever lives there") {
  Diary diary;
  ManualNode node;
  Scribe* scribe = start_scribe(node.loop, 3, 5, diary);
  node.settle();
  const ActorRef first = scribe->self();
  CHECK(first.actor == ActorId{3, 1, 5});
  tell(node.loop, {NodeId{1}, {}, {3, 0, 5}}, 1);
  tell(node.loop, {NodeId{1}, {}, {3, 0, 6}}, 2);
  node.settle();
  CHECK(diary.numbers == std::vector<int>{1});
  CHECK(node.loop.dead_letter_count(ErrorKind::kNoActor) == 1);
  node.loop.stop_actor({3, 0, 5});
  Scribe* second = start_scribe(node.loop, 3, 5, diary);
  CHECK(second->self().actor == ActorId{3, 2, 5});
  tell(node.loop, first, 3);
  tell(node.loop, {NodeId{1}, {}, {3, 0, 5}}, 4);
  node.settle();
  CHECK(diary.numbers == std::vector<int>{1, 4});
  CHECK(node.loop.dead_letter_count(ErrorKind::kNoActor) == 2);
  REQUIRE(node.loop.recent_dead_letters().size() == 2);
  CHECK(node.loop.recent_dead_letters().back().target == first);
}

TEST_CASE("a ref to another incarnation of this node is stale, one from before the join is not") {
  Diary diary;
  ManualNode node;
  Scribe* scribe = start_scribe(node.loop, 1, 0, diary);
  const ActorRef before = scribe->self();
  node.loop.set_incarnation(Incarnation{7});
  CHECK(scribe->self().incarnation == Incarnation{7});
  tell(node.loop, before, 1);
  tell(node.loop, scribe->self(), 2);
  ActorRef old = scribe->self();
  old.incarnation = Incarnation{6};
  tell(node.loop, old, 3);
  node.settle();
  CHECK(diary.numbers == std::vector<int>{1, 2});
  CHECK(node.loop.dead_letter_count(ErrorKind::kStaleIncarnation) == 1);
}

TEST_CASE("dead letters keep the last 1024 and count all") {
  ManualNode node;
  for (int i = 0; i < 3000; ++i) {
    tell(node.loop, {NodeId{1}, {}, {9, 0, static_cast<std::uint32_t>(i)}}, i);
  }
  const auto letters = node.loop.recent_dead_letters();
  REQUIRE(letters.size() == 1024);
  CHECK(letters.front().target.actor.index == 3000 - 1024);
  CHECK(letters.back().target.actor.index == 2999);
  CHECK(node.loop.dead_letter_count(ErrorKind::kNoActor) == 3000);
}

TEST_CASE("an error reply keeps its kind and at most 512 bytes of whole characters") {
  const Error error{ErrorKind::kWrongEpoch, "epoch 3 is over"};
  CHECK(describe(decode_error(encode_error(error))) == describe(error));
  std::string umlauts;
  for (int i = 0; i < 400; ++i) umlauts += "\xC3\xBC";
  umlauts.insert(0, "x");
  const Error cut = decode_error(encode_error({ErrorKind::kInvalid, umlauts}));
  CHECK(cut.kind == ErrorKind::kInvalid);
  CHECK(cut.text.size() == 511);
}

TEST_CASE("error replies that do not parse are malformed, in words") {
  const auto bytes = [](std::initializer_list<int> values) {
    std::vector<std::byte> all;
    for (const int v : values) all.push_back(static_cast<std::byte>(v));
    return all;
  };
  std::vector<std::byte> long_one(514, std::byte{'a'});
  long_one[0] = std::byte{1};
  for (const auto& bad : {bytes({}), bytes({0}), bytes({12, 'x'}), bytes({255}), bytes({1, 0xC3}), bytes({1, 0xFF}),
                          bytes({1, 0xC0, 0x80}), bytes({1, 0xED, 0xA0, 0x80}), long_one}) {
    const Error error = decode_error(bad);
    CHECK(error.kind == ErrorKind::kMalformed);
    CHECK(error.text.size() > 10);
  }
}

}  // namespace
}  // namespace consort::tests
