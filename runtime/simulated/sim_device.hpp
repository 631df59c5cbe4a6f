// SimDevice: runs device work inline when its virtual time is over: one piece after the other, urgent first.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>

#include "runtime/env.hpp"
#include "runtime/fifo.hpp"
#include "runtime/simulated/models.hpp"

namespace consort::runtime {

class World;

class SimDevice final : public Device {
 public:
  SimDevice(World& world, std::uint32_t process, SimDeviceModel model);

  void submit(DeviceWork work, MessageClass urgency, std::function<void()> done) override;
  int thread_count() const override { return 1; }
  std::size_t queued() const override { return queued_; }  // with the piece that runs

  // This node's own speed; from the next piece of work on.
  void set_model(SimDeviceModel model) { model_ = model; }
  const SimDeviceModel& model() const { return model_; }
  Duration busy_time() const { return busy_time_; }  // sum over all work so far

  // --- the world calls these ---
  void complete();  // the running piece ends
  void abandon();   // the process ends: nothing of it is run any more

 private:
  struct Piece {
    DeviceWork work;
    std::function<void()> done;
  };
  void start_next();

  World& world_;
  const std::uint32_t process_;
  SimDeviceModel model_;
  std::array<Fifo<Piece>, kMessageClassCount> waiting_;
  std::optional<Piece> running_;
  std::size_t queued_ = 0;
  Duration busy_time_{0};
  InlineWorkers workers_;
};

}  // namespace consort::runtime
