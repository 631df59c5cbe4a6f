#include "runtime/simulated/sim_device.hpp"

#include <utility>

#include "runtime/simulated/world.hpp"

namespace consort::runtime {

SimDevice::SimDevice(World& world, std::uint32_t process, SimDeviceModel model)
    : world_(world), process_(process), model_(model) {}

void SimDevice::submit(DeviceWork work, MessageClass urgency, std::function<void()> done) {
  ++queued_;
  waiting_[static_cast<std::size_t>(urgency)].push({std::move(work), std::move(done)});
  if (!running_) start_next();
}

void SimDevice::start_next() {
  for (auto& queue : waiting_) {
    if (queue.empty()) continue;
    running_ = queue.pop();
    const DeviceWork& work = running_->work;
    const auto read_ns =
        static_cast<std::int64_t>(static_cast<double>(work.weight_bytes) / model_.bytes_per_second * 1e9);
    const Duration time = world_.slowed(
        process_, model_.fixed + Duration(read_ns) + model_.per_row * static_cast<std::int64_t>(work.rows));
    busy_time_ += time;
    Trace& trace = world_.process(process_).trace();
    if (trace.enabled()) {
      trace.record({.name = work.label,
                    .track = "device",
                    .begin = world_.now(),
                    .length = time,
                    .a = static_cast<std::int64_t>(work.weight_bytes),
                    .b = static_cast<std::int64_t>(work.rows)});
    }
    world_.agenda_.add(world_.now() + time, Happening::kDevice, process_);
    return;
  }
}

void SimDevice::abandon() {
  running_.reset();
  for (auto& queue : waiting_) {
    while (!queue.empty()) (void)queue.pop();
  }
}

void SimDevice::complete() {
  CONSORT_CHECK(running_.has_value(), "a device ends work that it did not begin");
  Piece piece = std::move(*running_);
  running_.reset();
  --queued_;
  if (piece.work.run) piece.work.run(workers_);
  start_next();
  if (piece.done) piece.done();
}

}  // namespace consort::runtime
