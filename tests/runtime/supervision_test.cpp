#include <algorithm>

#include "support/manual_env.hpp"
#include "support/test.hpp"
#include "test_messages.hpp"

namespace consort::tests {
namespace {

using namespace runtime;

// A root "p" with three children "a", "b", "c" of type 2; every life is noted, with its generation.
struct Family {
  explicit Family(Supervision rule = {}) {
    parent = start_scribe(node.loop, 1, 0, diary, "p ", [this, rule](Scribe& self) {
      self.rule = rule;
      parent = &self;
      for (std::uint32_t i = 0; i < 3; ++i) {
        self.spawn(2, i, [this, i] {
          auto child = std::make_unique<Scribe>(diary, std::string(1, static_cast<char>('a' + i)) + " ");
          children[i] = child.get();
          return child;
        });
      }
    });
    node.settle();
    diary.events.clear();
  }
  void fail(std::uint32_t i) {
    act(node.loop, *children[i], [this, i] { children[i]->fail({ErrorKind::kInternal, "broken"}); });
    node.settle();
  }
  std::vector<std::string> take_events() { return std::exchange(diary.events, {}); }
  Diary diary;
  ManualNode node;
  Scribe* parent = nullptr;
  Scribe* children[3] = {};
};
using Events = std::vector<std::string>;

TEST_CASE("one_for_one restarts the child that failed, as a new generation, after the back-off") {
  Family family;
  family.fail(1);
  CHECK(family.take_events() == Events{"b stop", "b gone"});
  family.node.pass(199ms);
  CHECK(family.take_events().empty());
  family.node.pass(1ms);
  CHECK(family.take_events() == Events{"b start"});
  CHECK(family.children[1]->self().actor == ActorId{2, 2, 1});
  tell(family.node.loop, {NodeId{1}, {}, {2, 0, 1}}, 5);
  tell(family.node.loop, {NodeId{1}, {}, {2, 1, 1}}, 6);
  family.node.settle();
  CHECK(family.diary.numbers == std::vector<int>{5});
  CHECK(family.node.loop.dead_letter_count(ErrorKind::kNoActor) == 1);
}

TEST_CASE("one_for_all stops all children, latest first, and starts them in order") {
  Supervision rule;
  rule.restart = Restart::kOneForAll;
  Family family(rule);
  family.fail(1);
  CHECK(family.take_events() == Events{"b stop", "b gone", "c stop", "c gone", "a stop", "a gone"});
  family.node.pass(200ms);
  CHECK(family.take_events() == Events{"a start", "b start", "c start"});
}

TEST_CASE("rest_for_one stops those that were started after the one that failed") {
  Supervision rule;
  rule.restart = Restart::kRestForOne;
  Family family(rule);
  family.fail(1);
  CHECK(family.take_events() == Events{"b stop", "b gone", "c stop", "c gone"});
  family.node.pass(200ms);
  CHECK(family.take_events() == Events{"b start", "c start"});
  CHECK(family.children[0]->self().actor.generation == 1);
}

TEST_CASE("the back-off doubles up to 30 s and falls back when the failures are old") {
  Supervision rule;
  rule.intensity = 1000;
  rule.window = std::chrono::hours(1);
  Family family(rule);
  Duration wait = 200ms;
  for (int failure = 1; failure <= 12; ++failure) {
    family.fail(0);
    family.take_events();
    family.node.pass(wait - 1ns);
    CHECK(family.take_events().empty());
    family.node.pass(1ns);
    CHECK(family.take_events() == Events{"a start"});
    wait = std::min<Duration>(2 * wait, 30s);
  }
  family.node.pass(std::chrono::hours(2));
  family.fail(0);
  family.take_events();
  family.node.pass(200ms);
  CHECK(family.take_events() == Events{"a start"});
}

TEST_CASE("three restarts in 60 s are borne, the fourth makes the supervisor fail, which then begins anew") {
  Family family;
  for (const std::uint32_t i : {0u, 1u, 2u}) {
    family.fail(i);
    family.node.pass(1s);
  }
  family.take_events();
  family.fail(0);
  CHECK(family.take_events() == Events{"a stop", "a gone", "c stop", "c gone", "b stop", "b gone", "p stop", "p gone"});
  CHECK(family.node.terminator.reasons.empty());
  family.node.pass(200ms);
  CHECK(family.take_events() == Events{"p start", "a start", "b start", "c start"});
  CHECK(family.children[0]->self().actor.generation == 3);
  family.fail(0);  // the new life counts from none
  CHECK(family.take_events() == Events{"a stop", "a gone"});
}

TEST_CASE("failures that lie further apart than the window never escalate") {
  Family family;
  for (int i = 0; i < 20; ++i) {
    family.fail(0);
    family.node.pass(21s);
  }
  CHECK(family.parent->self().actor.generation == 1);
  CHECK(family.children[0]->self().actor.generation == 21);
}

TEST_CASE("a root that fails too often ends the process, in words") {
  Family family;
  for (int i = 0; i < 4; ++i) {
    CHECK(family.node.terminator.reasons.empty());
    act(family.node.loop, *family.parent, [&] { family.parent->fail({ErrorKind::kInternal, "no paper"}); });
    family.node.pass(2s);
  }
  REQUIRE(family.node.terminator.reasons.size() == 1);
  CHECK(family.node.terminator.reasons[0].find("no paper") != std::string::npos);
  CHECK(family.node.terminator.reasons[0].find("4 times within 60 s") != std::string::npos);
}

TEST_CASE("an exception that leaves a handler ends that actor only") {
  Family family;
  act(family.node.loop, *family.children[2], [] { throw std::runtime_error("bad alloc of ideas"); });
  family.node.settle();
  CHECK(family.take_events() == Events{"c stop", "c gone"});
  family.node.pass(200ms);
  CHECK(family.take_events() == Events{"c start"});
}

TEST_CASE("an actor that stops is not restarted, and its name can be given again") {
  Family family;
  act(family.node.loop, *family.children[0], [&] { family.children[0]->stop(); });
  family.node.pass(60s);
  CHECK(family.take_events() == Events{"a stop", "a gone"});
  ActorRef again;
  act(family.node.loop, *family.parent,
      [&] { again = family.parent->spawn(2, 0, [&] { return std::make_unique<Scribe>(family.diary, "A "); }); });
  family.node.settle();
  CHECK(again.actor == ActorId{2, 2, 0});
  CHECK(family.take_events() == Events{"A start"});
}

TEST_CASE("children end with their parent, latest first") {
  Family family;
  family.node.loop.stop_actor({1, 0, 0});
  CHECK(family.take_events() == Events{"c stop", "c gone", "b stop", "b gone", "a stop", "a gone", "p stop", "p gone"});
  family.node.pass(60s);
  CHECK(family.take_events().empty());
}

TEST_CASE("a child that waits for its restart does not come back after its parent ended") {
  Family family;
  family.fail(0);
  family.node.loop.stop_actor({1, 0, 0});
  family.take_events();
  family.node.pass(60s);
  CHECK(family.take_events().empty());
  CHECK_FALSE(family.node.loop.next_timer().has_value());
}

TEST_CASE("an actor that ends finishes its turn first") {
  Family family;
  bool finished = false;
  act(family.node.loop, *family.children[0], [&] {
    family.children[0]->stop();
    family.children[0]->tell(ScribeRef{family.parent->self()}, Number{3});
    CHECK(family.take_events().empty());
    finished = true;
  });
  family.node.settle();
  CHECK(finished);
  CHECK(family.diary.numbers == std::vector<int>{3});
}

TEST_CASE("a monitor fires once: at the end, at a failure, and at once where the actor is gone already") {
  Family family;
  std::vector<Down> downs;
  const auto watch = [&](ActorRef whom) {
    act(family.node.loop, *family.parent, [&, whom] {
      const auto before = downs.size();
      family.parent->monitor(whom, [&](Down down) { downs.push_back(std::move(down)); });
      CHECK(downs.size() == before);  // never inline
    });
    family.node.settle();
  };
  const ActorRef a = family.children[0]->self();
  const ActorRef b = family.children[1]->self();
  watch(a);
  watch(b);
  CHECK(downs.empty());
  family.node.loop.stop_actor(a.actor);
  family.fail(1);
  REQUIRE(downs.size() == 2);
  CHECK(downs[0].actor == a);
  CHECK(downs[0].reason.kind == ErrorKind::kCancelled);
  CHECK(downs[1].actor == b);
  CHECK(downs[1].reason.text == "broken");
  watch(a);
  REQUIRE(downs.size() == 3);
  CHECK(downs[2].reason.kind == ErrorKind::kNoActor);
  family.node.pass(10s);
  family.fail(1);
  CHECK(downs.size() == 3);
}

TEST_CASE("a monitor set on an actor that ends in this very turn fires once") {
  Family family;
  int downs = 0;
  act(family.node.loop, *family.parent, [&] {
    family.node.loop.stop_actor(family.children[0]->self().actor);
    family.parent->monitor(family.children[0]->self(), [&](Down) { ++downs; });
  });
  family.node.pass(10s);
  CHECK(downs == 1);
}

TEST_CASE("a watcher that ended hears nothing, and many of them do not pile up") {
  Family family;
  int downs = 0;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    Scribe* watcher = start_scribe(family.node.loop, 7, i, family.diary);
    act(family.node.loop, *watcher,
        [&, watcher] { watcher->monitor(family.children[0]->self(), [&](Down) { ++downs; }); });
    family.node.settle();
    family.node.loop.stop_actor(watcher->self().actor);
  }
  family.fail(0);
  CHECK(downs == 0);
}

}  // namespace
}  // namespace consort::tests
