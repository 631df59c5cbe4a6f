// CpuDevice: a processor's cores as a Device. One piece of work at a time, on all its threads, urgent work first.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/env.hpp"

namespace consort::kernels {

struct CpuDeviceOptions {
  int threads = 1;
  std::vector<int> cores;  // where they may run; empty: anywhere
  int nice = 5;            // added to the threads' nice value, so that loops on the same cores go first
  double slowdown = 1.0;   // plays a slow processor: after work of t it sleeps (slowdown - 1) * t
  // Work waits only for actors that wait for it, so that this many at once means that somebody does not: a bug.
  std::size_t queue_bound = 65536;
};

// `done` is called on a device thread, after the sleep that slowdown asks for. Work that is queued when the device ends
// is dropped with its `done`.
class CpuDevice final : public runtime::Device {
 public:
  // clock and trace outlive the device.
  CpuDevice(CpuDeviceOptions options, const runtime::Clock& clock, runtime::Trace& trace);
  ~CpuDevice() override;

  void submit(runtime::DeviceWork work, runtime::MessageClass urgency, std::function<void()> done) override;
  int thread_count() const override;
  std::size_t queued() const override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace consort::kernels
