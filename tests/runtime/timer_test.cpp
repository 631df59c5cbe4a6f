#include "runtime/timer_queue.hpp"

#include <map>

#include "support/manual_env.hpp"
#include "support/test.hpp"
#include "test_messages.hpp"

namespace consort::tests {
namespace {

using namespace runtime;

TEST_CASE("timers fire by time, equal ones in the order of their setting, and never early") {
  ManualNode node;
  std::vector<int> fired;
  const Instant begin = node.clock.now();
  node.loop.at(begin + 2ms, [&] { fired.push_back(3); });
  node.loop.at(begin + 1ms, [&] { fired.push_back(1); });
  node.loop.at(begin + 1ms, [&] { fired.push_back(2); });
  CHECK(node.loop.next_timer() == begin + 1ms);
  CHECK_FALSE(node.loop.fire_one_timer());
  node.clock.advance(1ms);
  CHECK(node.loop.fire_one_timer());
  CHECK(fired == std::vector<int>{1});
  CHECK(node.loop.fire_one_timer());
  CHECK_FALSE(node.loop.fire_one_timer());
  node.clock.advance(1ms);
  CHECK(node.loop.fire_one_timer());
  CHECK(fired == std::vector<int>{1, 2, 3});
}

TEST_CASE("a cancelled timer does not fire, nor does its id cancel the next one") {
  ManualNode node;
  int fired = 0;
  const TimerId first = node.loop.at(node.clock.now() + 1ms, [&] { fired += 1; });
  CHECK(first != 0);
  node.loop.cancel(first);
  const TimerId second = node.loop.at(node.clock.now() + 1ms, [&] { fired += 10; });
  CHECK(second != first);
  node.loop.cancel(first);
  node.loop.cancel(0);
  node.loop.cancel(~TimerId{0});
  node.pass(1s);
  CHECK(fired == 10);
}

TEST_CASE("a timer queue agrees with an ordered map over 100,000 random steps") {
  TimerQueue queue;
  std::multimap<std::int64_t, TimerId> model;
  Rng rng(5);
  Instant now{};
  std::vector<TimerId> fired;
  for (int step = 0; step < 100'000; ++step) {
    const auto what = rng.below(4);
    if (what < 2) {
      const auto when = now + Duration(rng.below(1000));
      auto own = std::make_shared<TimerId>(0);
      *own = queue.add(when, std::nullopt, [&fired, own] { fired.push_back(*own); });
      model.emplace(when.time_since_epoch().count(), *own);
    } else if (what == 2 && !model.empty()) {
      auto which = model.begin();
      std::advance(which, static_cast<std::ptrdiff_t>(rng.below(std::min<std::size_t>(model.size(), 50))));
      queue.cancel(which->second);
      model.erase(which);
    } else {
      now += Duration(rng.below(300));
      while (auto due = queue.pop_due(now)) {
        due->callback();
        REQUIRE_FALSE(model.empty());
        CHECK(model.begin()->second == fired.back());
        CHECK(model.begin()->first <= now.time_since_epoch().count());
        model.erase(model.begin());
      }
    }
    REQUIRE(queue.size() == model.size());
  }
  CHECK(fired.size() > 10'000);
}

TEST_CASE("an actor's timers run as its turns and end with it") {
  Diary diary;
  ManualNode node;
  int fired = 0;
  std::vector<ActorId> turns;
  Scribe* scribe = start_scribe(node.loop, 1, 0, diary, "", [&](Scribe& self) {
    self.after(1ms, [&] {
      ++fired;
      CHECK(self.now() == node.clock.now());
    });
    self.after(2ms, [&] { ++fired; });
    self.cancel(self.after(1ms, [&] { fired += 100; }));
  });
  node.settle();
  node.loop.set_observer([&](ActorId actor, MessageKind) { turns.push_back(actor); });
  node.pass(1ms);
  CHECK(fired == 1);
  CHECK(turns == std::vector<ActorId>{scribe->self().actor});
  node.loop.stop_actor(scribe->self().actor);
  CHECK_FALSE(node.loop.next_timer().has_value());
  node.pass(1s);
  CHECK(fired == 1);
}

}  // namespace
}  // namespace consort::tests
