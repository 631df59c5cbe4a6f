// SimProcess: one life of a node in a simulated world: its loop, its Env, and what its boot function built on them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/env.hpp"
#include "runtime/event_loop.hpp"
#include "runtime/simulated/agenda.hpp"
#include "runtime/simulated/sim_device.hpp"
#include "runtime/simulated/sim_disk.hpp"
#include "runtime/simulated/sim_link.hpp"
#include "runtime/trace.hpp"

namespace consort::runtime {

class SimProcess;
class World;

// Builds a process' actors, as main() does in a real one. Called once per life. What it returns is destroyed before the
// loop (a post office, which uses the loop); SimProcess::keep() is for what must outlive the actors (weights, pools).
using SimBoot = std::function<std::shared_ptr<void>(SimProcess&)>;

class SimClock final : public Clock {
 public:
  explicit SimClock(const World& world) : world_(world) {}
  Instant now() const override;
  std::int64_t unix_ns() const override;

 private:
  const World& world_;
};

// Starts children on the process' own host, through the world's program.
class SimSpawner final : public Spawner {
 public:
  SimSpawner(World& world, std::uint32_t process) : world_(world), process_(process) {}
  Outcome<ProcessId> start(const ProcessSpec& spec) override;
  void kill(ProcessId child) override;
  void on_exit(std::function<void(ProcessExit)> callback) override { on_exit_ = std::move(callback); }
  void tell(const ProcessExit& exit) const {
    if (on_exit_) on_exit_(exit);
  }

 private:
  World& world_;
  const std::uint32_t process_;
  std::function<void(ProcessExit)> on_exit_;
};

class SimTerminator final : public Terminator {
 public:
  SimTerminator(World& world, std::uint32_t process) : world_(world), process_(process) {}
  void terminate(std::string_view why) override;

 private:
  World& world_;
  const std::uint32_t process_;
};

class SimProcess {
 public:
  const std::string& name() const { return name_; }
  NodeId node() const { return node_; }
  std::uint32_t index() const { return index_; }  // as World::process() takes it
  ProcessId id() const { return static_cast<ProcessId>(index_) + 1; }
  const std::string& host() const { return host_; }
  const ProcessSpec& spec() const { return spec_; }
  World& world() { return world_; }

  bool alive() const { return life_ != nullptr && !ended_; }  // begun and not ended
  bool ended() const { return ended_; }
  bool paused() const { return paused_; }
  const std::string& end_reason() const { return end_reason_; }
  double slowness() const { return slowness_; }
  void set_slowness(double factor) { slowness_ = factor; }  // 1: as its models say; 3: all takes three times as long

  // Of a living process only.
  EventLoop& loop() { return life().loop; }
  Env& env() { return life().env; }
  Rng& rng() { return life().rng; }
  Trace& trace() { return life().trace; }
  SimLink& control() { return life().control; }
  SimLink& data() { return life().data; }
  SimDevice& device() { return life().device; }
  SimDisk& disk() { return life().disk; }
  void keep(std::shared_ptr<void> object) { life().kept.push_back(std::move(object)); }
  // Something that must be 0 when the world is at rest: buffers out, credits held, pages in use.
  void add_rest_check(std::string what, std::function<std::size_t()> count) {
    life().rest_checks.emplace_back(std::move(what), std::move(count));
  }

 private:
  friend class World;
  friend class SimNetwork;

  // What a crash takes away. Members end in reverse order; world.cpp ends house and loop first, by hand.
  struct Life {
    Life(World& world, SimProcess& process, std::uint64_t seed);
    std::vector<std::shared_ptr<void>> kept;
    SimClock clock;
    Rng rng;
    Trace trace;
    SimTerminator terminator;
    SimSpawner spawner;
    SimDisk disk;
    SimDevice device;
    SimLink control;
    SimLink data;
    EventLoop loop;
    Env env;
    std::shared_ptr<void> house;
    std::vector<std::pair<std::string, std::function<std::size_t()>>> rest_checks;
    ActorId last_actor;
    MessageKind last_kind = 0;
  };

  SimProcess(World& world, std::uint32_t index, std::string name, NodeId node, std::string host, SimBoot boot)
      : world_(world),
        index_(index),
        name_(std::move(name)),
        node_(node),
        host_(std::move(host)),
        boot_(std::move(boot)) {}
  Life& life() {
    CONSORT_CHECK(life_ != nullptr, name_, "is not alive");
    return *life_;
  }

  World& world_;
  const std::uint32_t index_;
  const std::string name_;
  const NodeId node_;
  const std::string host_;
  ProcessSpec spec_;
  const SimBoot boot_;
  std::uint32_t parent_ = kNobody;
  std::vector<std::uint32_t> children_;
  bool ended_ = false;
  bool paused_ = false;
  std::uint64_t pause_number_ = 0;
  std::string end_reason_;
  double slowness_ = 1;
  std::vector<AgendaEntry> held_;  // what happened to it while it was paused
  bool turn_planned_ = false;
  Instant free_at_{};  // its loop is busy until then
  Instant timer_planned_ = Instant::max();
  std::unique_ptr<Life> life_;
  static constexpr std::uint32_t kNobody = ~std::uint32_t{0};
};

}  // namespace consort::runtime
