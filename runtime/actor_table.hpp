// ActorCell: an actor with its queues and its place among its family; ActorTable: who lives at (type, index).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <variant>
#include <vector>

#include "runtime/actor.hpp"
#include "runtime/callback.hpp"
#include "runtime/fifo.hpp"
#include "runtime/ids.hpp"
#include "runtime/protocol.hpp"

namespace consort::runtime {

// What an actor does next: take a message, run a turn, go on after an ask, or begin.
struct AskDone {
  std::uint64_t slot = 0;
};
struct Begin {};
using ActorItem = std::variant<std::monostate, Incoming, Callback<void()>, AskDone, Begin>;

struct LocalMonitor {
  ActorId watcher;
  ActorRef target;  // as the watcher named it
  Callback<void(Down)> callback;
};
struct RemoteWatcher {
  ActorRef watcher;  // node and incarnation; the actor is the remote loop's own affair
  std::uint64_t token = 0;
  bool operator==(const RemoteWatcher&) const = default;
};

struct ActorCell {
  ActorId id;
  ActorCell* parent = nullptr;
  std::vector<ActorCell*> children;  // in order of their start
  std::function<std::unique_ptr<Actor>()> make;
  std::unique_ptr<Actor> actor;      // null while it waits for its restart
  std::array<Fifo<ActorItem>, kMessageClassCount> queues;
  std::array<std::size_t, kMessageClassCount> messages{};  // of the items: what counts against the bound
  std::array<bool, kMessageClassCount> listed{};           // in the ready list of that class
  bool ending = false;
  std::size_t open_asks = 0;
  std::vector<LocalMonitor> monitors;
  std::size_t monitor_sweep_at = 64;  // watchers that have ended are swept out when there are this many
  std::vector<RemoteWatcher> remote_watchers;
  std::deque<Instant> child_restarts;  // as a supervisor: within the window
  std::deque<Instant> failures;        // its own: within its supervisor's window
  TimerId restart_timer = 0;
};

class ActorTable {
 public:
  // A new cell with the next generation of (type, index), which must be free.
  ActorCell& create(std::uint16_t type, std::uint32_t index);
  void remove(ActorCell& cell);
  // The next life at the same place.
  void renew(ActorCell& cell);

  // The cell that id means; generation 0 means whoever lives there. Null: nobody, or another generation.
  ActorCell* find(ActorId id) const;
  // Only this very generation, generation 0 included in nothing.
  ActorCell* find_exact(ActorId id) const;
  std::vector<ActorCell*>& roots() { return roots_; }  // in order of their start
  template <class Visit>
  void for_each(Visit visit) {
    for (auto& cell : cells_) visit(*cell);
  }

 private:
  std::uint16_t next_generation(std::uint64_t place);
  // Looked up, never iterated. One small entry per (type, index) ever used: those are roles and small numbers.
  struct Place {
    ActorCell* cell = nullptr;
    std::uint16_t last_generation = 0;
  };
  std::unordered_map<std::uint64_t, Place> places_;
  std::vector<std::unique_ptr<ActorCell>> cells_;
  std::vector<ActorCell*> roots_;
};

}  // namespace consort::runtime
