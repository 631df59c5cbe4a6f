#include "kernels/cpu_device.hpp"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "runtime/check.hpp"
#include "runtime/pinning.hpp"
#include "runtime/trace.hpp"

namespace consort::kernels {
namespace {

using runtime::Duration;
using runtime::Instant;

void settle_thread(const CpuDeviceOptions& options, int index) {
  const std::string name = "device/" + std::to_string(index);
  ::pthread_setname_np(::pthread_self(), name.c_str());
  const auto pinned = runtime::pin_this_thread(options.cores);
  if (!pinned.ok()) std::fprintf(stderr, "%s is not pinned: %s\n", name.c_str(), pinned.error().text.c_str());
  // On Linux a thread has a nice value of its own. A refusal costs latency, not results.
  const auto thread = static_cast<id_t>(::syscall(SYS_gettid));
  const int now = ::getpriority(PRIO_PROCESS, thread);
  ::setpriority(PRIO_PROCESS, thread, now + options.nice);
}

// Work opens one loop over rows soon after the other, so a helper looks for the next one for some microseconds before
// it sleeps: a sleep and a wake cost 5 to 40. About 4 us of pauses.
constexpr int kLooksBeforeSleep = 300;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// The threads beside the leader. A helper that wakes late finds the loop closed and is not waited for: the leader
// never depends on a thread that the kernel has set aside.
class Team final : public runtime::Workers {
 public:
  explicit Team(const CpuDeviceOptions& options) {
    for (int i = 1; i < options.threads; ++i) {
      helpers_.emplace_back([this, options, i] {
        settle_thread(options, i);
        help_until_stopped();
      });
    }
  }
  ~Team() override {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    opened_.notify_all();
    for (auto& helper : helpers_) helper.join();
  }

  int count() const override { return static_cast<int>(helpers_.size()) + 1; }

  void parallel_for(std::int64_t n, const std::function<void(std::int64_t)>& body) override {
    // Alone, or within a body of another loop: the helpers are busy with that one.
    if (helpers_.empty() || n <= 1 || within_body_) {
      for (std::int64_t i = 0; i < n; ++i) body(i);
      return;
    }
    bool wake;
    {
      const std::lock_guard lock(mutex_);
      body_ = &body;
      end_ = n;
      next_.store(0, std::memory_order_relaxed);
      round_.store(round_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
      wake = asleep_ > 0;
    }
    if (wake) opened_.notify_all();
    take_rows(body, n);
    std::unique_lock lock(mutex_);
    body_ = nullptr;  // closed: who has not joined yet never will
    left_.wait(lock, [&] { return joined_ == 0; });
  }

 private:
  void take_rows(const std::function<void(std::int64_t)>& body, std::int64_t end) {
    within_body_ = true;
    for (auto i = next_.fetch_add(1, std::memory_order_relaxed); i < end;
         i = next_.fetch_add(1, std::memory_order_relaxed)) {
      body(i);
    }
    within_body_ = false;
  }

  void help_until_stopped() {
    std::uint64_t seen = 0;
    for (;;) {
      for (int i = 0; i < kLooksBeforeSleep && round_.load(std::memory_order_acquire) == seen; ++i) pause();
      std::unique_lock lock(mutex_);
      ++asleep_;
      opened_.wait(lock, [&] { return stopped_ || (body_ != nullptr && round_.load() != seen); });
      --asleep_;
      if (stopped_) return;
      seen = round_.load();
      const auto* body = body_;
      const auto end = end_;
      ++joined_;
      lock.unlock();
      take_rows(*body, end);
      lock.lock();
      if (--joined_ == 0) left_.notify_one();
    }
  }

  static thread_local bool within_body_;
  std::mutex mutex_;
  std::condition_variable opened_;
  std::condition_variable left_;
  const std::function<void(std::int64_t)>* body_ = nullptr;
  std::int64_t end_ = 0;
  std::atomic<std::uint64_t> round_{0};  // written under the mutex
  int joined_ = 0;
  int asleep_ = 0;
  bool stopped_ = false;
  alignas(64) std::atomic<std::int64_t> next_{0};
  std::vector<std::thread> helpers_;
};
thread_local bool Team::within_body_ = false;

}  // namespace

struct CpuDevice::State {
  State(CpuDeviceOptions o, const runtime::Clock& c, runtime::Trace& t)
      : options(std::move(o)), clock(c), trace(t), team(options), leader([this] { lead(); }) {}

  struct Job {
    runtime::DeviceWork work;
    std::function<void()> done;
  };

  void lead() {
    settle_thread(options, 0);
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [&] { return stopped || queued > 0; });
      if (stopped) return;
      Job job = take_most_urgent();
      lock.unlock();
      const Instant begin = clock.now();
      job.work.run(team);
      const Duration took = clock.now() - begin;
      trace.record({job.work.label, "device", begin, took, static_cast<std::int64_t>(job.work.rows),
                    static_cast<std::int64_t>(job.work.weight_bytes)});
      lock.lock();
      if (options.slowdown > 1.0) {
        const auto rest = std::chrono::duration_cast<Duration>((options.slowdown - 1.0) * took);
        changed.wait_for(lock, rest, [&] { return stopped; });
        if (stopped) return;
      }
      lock.unlock();
      job.done();
      job = {};  // what it holds is let go here, not under the lock
      lock.lock();
    }
  }

  Job take_most_urgent() {
    for (auto& jobs : waiting) {
      if (jobs.empty()) continue;
      Job job = std::move(jobs.front());
      jobs.pop_front();
      --queued;
      return job;
    }
    CONSORT_CHECK(false, queued);
  }

  const CpuDeviceOptions options;
  const runtime::Clock& clock;
  runtime::Trace& trace;
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::array<std::deque<Job>, runtime::kMessageClassCount> waiting;
  std::size_t queued = 0;
  bool stopped = false;
  Team team;
  std::thread leader;  // last: it uses all the others
};

CpuDevice::CpuDevice(CpuDeviceOptions options, const runtime::Clock& clock, runtime::Trace& trace) {
  CONSORT_CHECK(options.threads >= 1 && options.slowdown >= 1.0, options.threads, options.slowdown);
  state_ = std::make_unique<State>(std::move(options), clock, trace);
}

CpuDevice::~CpuDevice() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopped = true;
  }
  state_->changed.notify_all();
  state_->leader.join();
}

void CpuDevice::submit(runtime::DeviceWork work, runtime::MessageClass urgency, std::function<void()> done) {
  {
    const std::lock_guard lock(state_->mutex);
    CONSORT_CHECK(state_->queued < state_->options.queue_bound, state_->queued);
    state_->waiting[static_cast<std::size_t>(urgency)].push_back({std::move(work), std::move(done)});
    ++state_->queued;
  }
  state_->changed.notify_all();
}

int CpuDevice::thread_count() const { return state_->options.threads; }

std::size_t CpuDevice::queued() const {
  const std::lock_guard lock(state_->mutex);
  return state_->queued;
}

}  // namespace consort::kernels
