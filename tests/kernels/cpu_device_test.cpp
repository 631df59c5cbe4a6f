#include "kernels/cpu_device.hpp"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <numeric>
#include <thread>

#include "runtime/actor.hpp"
#include "runtime/event_loop.hpp"
#include "runtime/posix/posix_clock.hpp"
#include "runtime/trace.hpp"
#include "support/manual_env.hpp"
#include "support/test.hpp"

namespace consort::tests {
namespace {

using namespace runtime;
using namespace std::chrono_literals;
using kernels::CpuDevice;
using kernels::CpuDeviceOptions;

struct Rig {
  explicit Rig(CpuDeviceOptions options) : device(options, clock, trace) {}
  // Submits and waits.
  void run(std::function<void(Workers&)> work) {
    std::atomic<bool> finished{false};
    device.submit({std::move(work), "test"}, MessageClass::kDecode, [&] { finished = true; });
    for (int i = 0; !finished && i < 200'000; ++i) std::this_thread::sleep_for(100us);
    REQUIRE(finished);
  }
  posix::PosixClock clock;
  Trace trace{1024};
  CpuDevice device;
};

CpuDeviceOptions threads(int count) {
  CpuDeviceOptions options;
  options.threads = count;
  return options;
}

TEST_CASE("parallel_for calls its body once for every index, on any number of threads") {
  for (const int count : {1, 2, 3, 8}) {
    Rig rig(threads(count));
    CHECK(rig.device.thread_count() == count);
    for (int repeat = 0; repeat < 200; ++repeat) {
      const std::int64_t n = repeat % 37;
      std::vector<int> calls(static_cast<std::size_t>(n), 0);
      rig.run([&](Workers& workers) {
        CHECK(workers.count() == count);
        workers.parallel_for(n, [&](std::int64_t i) { ++calls[static_cast<std::size_t>(i)]; });
      });
      for (const int c : calls) REQUIRE(c == 1);
    }
  }
}

TEST_CASE("loops within one piece of work follow each other: each sees what the last one wrote") {
  Rig rig(threads(3));
  std::vector<std::int64_t> values(512, 0);
  rig.run([&](Workers& workers) {
    for (int round = 0; round < 2000; ++round) {
      const std::vector<std::int64_t> before = values;
      workers.parallel_for(512, [&](std::int64_t i) {
        values[static_cast<std::size_t>(i)] = before[static_cast<std::size_t>((i + 1) % 512)] + 1;
      });
    }
  });
  for (const auto value : values) REQUIRE(value == 2000);
}

TEST_CASE("a loop within a loop's body runs on its thread") {
  Rig rig(threads(4));
  std::atomic<int> calls{0};
  rig.run([&](Workers& workers) {
    workers.parallel_for(8, [&](std::int64_t) { workers.parallel_for(8, [&](std::int64_t) { ++calls; }); });
  });
  CHECK(calls == 64);
}

TEST_CASE("work runs one piece at a time, urgent first, in order within a class") {
  Rig rig(threads(2));
  std::mutex mutex;
  std::vector<int> order;
  std::atomic<int> running{0};
  std::atomic<int> finished{0};
  std::atomic<bool> go{false};
  rig.device.submit({[&](Workers&) {
                       while (!go) std::this_thread::sleep_for(1ms);
                     },
                     "gate"},
                    MessageClass::kDecode, [&] { ++finished; });
  const auto submit = [&](int tag, MessageClass urgency) {
    rig.device.submit({[&, tag](Workers&) {
                         CHECK(++running == 1);
                         const std::lock_guard lock(mutex);
                         order.push_back(tag);
                         --running;
                       },
                       "piece"},
                      urgency, [&] { ++finished; });
  };
  submit(30, MessageClass::kBackground);
  submit(20, MessageClass::kBulk);
  submit(10, MessageClass::kDecode);
  submit(11, MessageClass::kDecode);
  submit(0, MessageClass::kSystem);
  CHECK(rig.device.queued() >= 5);
  go = true;
  for (int i = 0; finished < 6 && i < 20'000; ++i) std::this_thread::sleep_for(1ms);
  CHECK(order == std::vector<int>{0, 10, 11, 20, 30});
  CHECK(rig.device.queued() == 0);
}

TEST_CASE("a device that plays a slow one sleeps for the rest, and its results are the same") {
  CpuDeviceOptions slow = threads(1);
  slow.slowdown = 3.0;
  Rig rig(slow);
  Duration worked{};
  const Instant begin = rig.clock.now();
  int result = 0;
  rig.run([&](Workers&) {
    const Instant from = rig.clock.now();
    while (rig.clock.now() - from < 30ms) {
    }
    result = 42;
    worked = rig.clock.now() - from;
  });
  CHECK(result == 42);
  CHECK(rig.clock.now() - begin >= 3 * worked - 1ms);  // the work is measured from just outside it
}

TEST_CASE("device threads give way to loops") {
  Rig rig(threads(2));
  const int here = ::getpriority(PRIO_PROCESS, 0);
  std::atomic<int> least{100};
  rig.run([&](Workers& workers) {
    workers.parallel_for(2, [&](std::int64_t) {
      const int nice = ::getpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)));
      if (nice < least) least = nice;
    });
  });
  CHECK(least == std::min(here + 5, 19));
}

TEST_CASE("a device that ends drops what is queued and finishes what runs") {
  std::atomic<int> ran{0};
  std::atomic<int> told{0};
  auto held = std::make_shared<int>(0);
  {
    Rig rig(threads(2));
    std::atomic<bool> started{false};
    rig.device.submit({[&](Workers&) {
                         started = true;
                         std::this_thread::sleep_for(20ms);
                         ++ran;
                       },
                       "long"},
                      MessageClass::kSystem, [&] { ++told; });
    for (int i = 0; i < 10; ++i) {
      rig.device.submit({[&, held](Workers&) { ++ran; }, "queued"}, MessageClass::kBulk, [&, held] { ++told; });
    }
    while (!started) std::this_thread::sleep_for(1ms);
  }
  CHECK(ran == 1);
  CHECK(held.use_count() == 1);
}

TEST_CASE("each piece of work leaves a span in the trace") {
  Rig rig(threads(1));
  rig.trace.enable(true);
  rig.run([](Workers&) { std::this_thread::sleep_for(2ms); });
  REQUIRE(rig.trace.events().size() == 1);
  CHECK(rig.trace.events()[0].track == "device");
  CHECK(rig.trace.events()[0].length >= 2ms);
}

// compute() from an actor on a real loop: the completion is a turn of the actor.
struct Summer final : ActorOf<Summer, Protocol<>> {
  Summer(EventLoop& owner, std::int64_t& out) : owner_(owner), out_(out) {}
  void on_start() override {
    compute({[this](Workers& workers) {
               workers.parallel_for(1000, [this](std::int64_t i) { parts_[static_cast<std::size_t>(i)] = i; });
             },
             "sum"},
            MessageClass::kDecode, [this] {
              out_ = std::accumulate(parts_.begin(), parts_.end(), std::int64_t{0});
              owner_.stop();
            });
  }
  EventLoop& owner_;
  std::int64_t& out_;
  std::vector<std::int64_t> parts_ = std::vector<std::int64_t>(1000);
};

TEST_CASE("an actor computes on the device and goes on in a turn of its own") {
  Rig rig(threads(2));
  EventLoop loop(NodeId{1});
  Rng rng(1);
  NotedTerminator terminator;
  Env env{rig.clock, rng, loop, terminator, rig.trace};
  env.device = &rig.device;
  loop.set_env(env);
  std::int64_t sum = 0;
  loop.spawn_root(1, 0, [&] { return std::make_unique<Summer>(loop, sum); });
  loop.run(Duration::zero());
  CHECK(sum == 999 * 1000 / 2);
}

}  // namespace
}  // namespace consort::tests
