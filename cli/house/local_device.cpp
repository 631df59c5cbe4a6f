#include "cli/house/local_device.hpp"

#include <condition_variable>
#include <mutex>
#include <thread>

#include "kernels/cpu_device.hpp"
#include "runtime/posix/posix_clock.hpp"
#include "runtime/trace.hpp"

namespace consort::cli {

int on_local_device(const std::function<int(runtime::Workers&)>& work) {
  const runtime::posix::PosixClock clock;
  runtime::Trace trace;
  kernels::CpuDeviceOptions options;
  options.threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  options.nice = 0;
  kernels::CpuDevice device(options, clock, trace);
  std::mutex mutex;
  std::condition_variable finished;
  bool is_done = false;
  int result = 0;
  device.submit({[&](runtime::Workers& workers) { result = work(workers); }, "command", 0, 0},
                runtime::MessageClass::kDecode, [&] {
                  const std::lock_guard lock(mutex);
                  is_done = true;
                  finished.notify_one();
                });
  std::unique_lock lock(mutex);
  finished.wait(lock, [&] { return is_done; });
  return result;
}

}  // namespace consort::cli
