// Loops on threads of their own: posts, sleeping and waking, the real clock.
#include <atomic>
#include <thread>

#include "runtime/inbox.hpp"
#include "runtime/posix/posix_clock.hpp"
#include "runtime/trace.hpp"
#include "support/manual_env.hpp"
#include "support/test.hpp"
#include "test_messages.hpp"

namespace consort::tests {
namespace {

using namespace runtime;

// A loop that runs on a thread until the end of the test.
struct RunningLoop {
  explicit RunningLoop(Duration spin = Duration::zero()) : spin_(spin) { loop.set_env(env); }
  ~RunningLoop() { join(); }
  void go() {
    thread_ = std::thread([this] { loop.run(spin_); });
  }
  void join() {
    if (!thread_.joinable()) return;
    loop.stop();
    thread_.join();
  }
  posix::PosixClock clock;
  Rng rng{posix::kernel_seed()};
  NotedTerminator terminator;
  Trace trace{64};
  EventLoop loop{NodeId{1}};
  Env env{clock, rng, loop, terminator, trace};

 private:
  Duration spin_;
  std::thread thread_;
};

void wait_for(const std::atomic<int>& value, int wanted) {
  for (int ms = 0; value.load() < wanted && ms < 20'000; ++ms) std::this_thread::sleep_for(1ms);
  CHECK(value.load() == wanted);
}

TEST_CASE("an inbox gives every producer's turns in its order, and each once") {
  Inbox inbox;
  constexpr int kProducers = 4;
  constexpr int kTurns = 20'000;
  std::vector<std::thread> producers;
  std::vector<int> next(kProducers, 0);
  int out_of_order = 0;
  for (int p = 0; p < kProducers; ++p) {
    producers.emplace_back([&inbox, &next, &out_of_order, p] {
      for (int i = 0; i < kTurns; ++i) {
        inbox.push({std::nullopt, [&next, &out_of_order, p, i] {
                      auto& expected = next[static_cast<std::size_t>(p)];
                      if (expected++ != i) ++out_of_order;
                    }});
      }
    });
  }
  int taken = 0;
  while (taken < kProducers * kTurns) {
    if (auto turn = inbox.pop()) {
      turn->run();
      ++taken;
    } else {
      std::this_thread::yield();
    }
  }
  for (auto& producer : producers) producer.join();
  CHECK(out_of_order == 0);
  CHECK(inbox.empty());
  CHECK_FALSE(inbox.pop().has_value());
}

TEST_CASE("turns that threads post to an actor run on its loop, and wake it where it sleeps") {
  for (const Duration spin : {Duration::zero(), Duration(50us)}) {
    std::atomic<int> done{0};
    int unguarded = 0;  // touched by the loop's thread only: TSan would tell
    Diary diary;
    RunningLoop running(spin);
    Scribe* scribe = start_scribe(running.loop, 1, 0, diary);
    const ActorId id = scribe->self().actor;
    const Poster poster = running.loop.poster();
    running.go();
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&, id] {
        for (int i = 0; i < 300; ++i) {
          poster.post(id, [&] {
            ++unguarded;
            ++done;
          });
          if (i % 100 == 0) std::this_thread::sleep_for(2ms);  // so that the loop falls asleep in between
        }
      });
    }
    for (auto& thread : threads) thread.join();
    wait_for(done, 900);
    running.join();
    CHECK(unguarded == 900);
    if (spin == Duration::zero()) CHECK(running.loop.counts().sleeps > 0);
  }
}

TEST_CASE("an idle loop sleeps: about a hundred looks per second and no more") {
  RunningLoop running;
  running.go();
  std::this_thread::sleep_for(500ms);
  running.join();
  // 50 naps of 10 ms fit; a loop that spins would count millions of them, or none.
  CHECK(running.loop.counts().sleeps >= 2);
  CHECK(running.loop.counts().sleeps <= 60);
}

TEST_CASE("a timer wakes a sleeping loop in time") {
  std::atomic<int> fired{0};
  Diary diary;
  RunningLoop running;
  Instant set;
  Instant seen;
  start_scribe(running.loop, 1, 0, diary, "", [&](Scribe& self) {
    set = running.clock.now();
    self.after(3ms, [&] {
      seen = running.clock.now();
      ++fired;
    });
  });
  running.go();
  wait_for(fired, 1);
  running.join();
  CHECK(seen - set >= 3ms - 1us);  // the turn's cached clock may lie a little before `set`
  CHECK(seen - set < 2s);
}

TEST_CASE("posts to an actor that has ended, or to a loop that has, are dropped with what they hold") {
  Diary diary;
  auto held = std::make_shared<int>(1);
  Poster poster;
  {
    RunningLoop running;
    poster = running.loop.poster();
    running.go();
    poster.post(ActorId{9, 1, 9}, [held] { CHECK(false); });
    std::this_thread::sleep_for(20ms);
  }
  poster.post([held] { CHECK(false); });
  CHECK(held.use_count() == 1);
}

TEST_CASE("as_turn brings a completion on another thread back as a turn of the actor") {
  std::atomic<int> result{0};
  Diary diary;
  RunningLoop running;
  std::thread worker;
  std::thread::id turn_thread;
  start_scribe(running.loop, 1, 0, diary, "", [&](Scribe& self) {
    auto complete = self.as_turn<int>([&](int value) {
      turn_thread = std::this_thread::get_id();
      result = value;
    });
    worker = std::thread([complete] { complete(41); });
  });
  std::thread::id loop_thread;
  running.loop.poster().post([&] { loop_thread = std::this_thread::get_id(); });
  running.go();
  wait_for(result, 41);
  worker.join();
  running.join();
  CHECK(turn_thread == loop_thread);
}

// A source whose descriptor is a loop's business: arm() is asked before every sleep.
struct CountingSource final : EventSource {
  bool poll() override {
    ++polls;
    return false;
  }
  bool arm() override {
    ++arms;
    return arms % 2 == 0;  // every other time: there is work already
  }
  int polls = 0;
  int arms = 0;
};

TEST_CASE("a loop arms its sources before it sleeps, and turns again where one has work") {
  RunningLoop running;
  CountingSource source;
  running.loop.add_source(source);
  running.go();
  std::this_thread::sleep_for(100ms);
  running.join();
  CHECK(source.arms >= 2);
  CHECK(source.polls >= source.arms);
  CHECK(source.polls <= 60);
}

}  // namespace
}  // namespace consort::tests
