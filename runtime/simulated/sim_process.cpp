#include "runtime/simulated/sim_process.hpp"

#include <cstring>

#include "runtime/simulated/world.hpp"

namespace consort::runtime {
namespace {

// Wall time of the world's first instant: 2025-01-01. Only logs and the API read it.
constexpr std::int64_t kUnixAtZeroNs = 1'735'689'600'000'000'000;
constexpr std::size_t kTraceEvents = 1u << 12;  // grows only when enabled; a world has dozens of processes

LinkToken draw_token(Rng& rng) {
  LinkToken token;
  for (std::size_t i = 0; i < token.size(); i += 8) {
    const std::uint64_t bits = rng.next();
    std::memcpy(token.data() + i, &bits, 8);
  }
  return token;
}

}  // namespace

Instant SimClock::now() const { return world_.now(); }
std::int64_t SimClock::unix_ns() const { return kUnixAtZeroNs + world_.now().time_since_epoch().count(); }

Outcome<ProcessId> SimSpawner::start(const ProcessSpec& spec) { return world_.start_child(process_, spec); }
void SimSpawner::kill(ProcessId child) { world_.kill_child(process_, child); }

void SimTerminator::terminate(std::string_view why) { world_.end(process_, "exit code 1: " + std::string(why)); }

SimProcess::Life::Life(World& world, SimProcess& process, std::uint64_t seed)
    : clock(world),
      rng(seed),
      trace(kTraceEvents),
      terminator(world, process.index_),
      spawner(world, process.index_),
      disk(world, process.index_, world.storage(process.host_), Rng(rng.next())),
      device(world, process.index_, world.model_.device),
      control(world.network(), Wire::kControl, process.index_, process.node_, draw_token(rng)),
      data(world.network(), Wire::kData, process.index_, process.node_, draw_token(rng)),
      loop(process.node_),
      env{clock, rng, loop, terminator, trace, &disk, &device, &spawner, &control, &data} {
  loop.set_env(env);
  loop.set_observer([this](ActorId actor, MessageKind kind) {
    last_actor = actor;
    last_kind = kind;
  });
}

}  // namespace consort::runtime
