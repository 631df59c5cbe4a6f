// How a watcher hears, once, that an actor is gone: here at its end, away when its node goes.
#include <algorithm>
#include <utility>

#include "runtime/loop_state.hpp"

namespace consort::runtime {

void EventLoop::monitor(ActorId watcher, ActorRef target, Callback<void(Down)> callback) {
  State& state = *state_;
  LocalMonitor monitor{watcher, target, std::move(callback)};
  if (!state.is_here(target)) {
    state.away_monitors[target.node].push_back({state.next_monitor_token++, std::move(monitor)});
    return;
  }
  if (auto error = state.stale(target)) return state.tell_down(std::move(monitor), *error);
  ActorCell* cell = state.actors.find(target.actor);
  if (cell == nullptr) {
    return state.tell_down(std::move(monitor), {ErrorKind::kNoActor, "the actor was gone before it was watched"});
  }
  if (cell->monitors.size() >= cell->monitor_sweep_at) {
    std::erase_if(cell->monitors, [&](const LocalMonitor& m) { return !state.actors.find_exact(m.watcher); });
    cell->monitor_sweep_at = std::max<std::size_t>(64, 2 * cell->monitors.size());
  }
  cell->monitors.push_back(std::move(monitor));
}

void EventLoop::State::tell_down(LocalMonitor monitor, const Error& reason) {
  ActorCell* watcher = actors.find_exact(monitor.watcher);
  if (watcher == nullptr) return;
  enqueue(*watcher, MessageClass::kSystem,
          Callback<void()>([callback = std::move(monitor.callback), down = Down{monitor.target, reason}]() mutable {
            callback(std::move(down));
          }));
}

void EventLoop::State::fire_monitors(ActorCell& cell, const Error& reason) {
  auto monitors = std::exchange(cell.monitors, {});
  for (auto& monitor : monitors) tell_down(std::move(monitor), reason);
}

void EventLoop::peer_down(NodeId peer, Error why) {
  State& state = *state_;
  state.read_clock();
  for (const auto slot : state.asks.at_node(peer)) state.complete(slot, why);
  const auto found = state.away_monitors.find(peer);
  if (found == state.away_monitors.end()) return;
  auto monitors = std::move(found->second);
  state.away_monitors.erase(found);
  for (auto& away : monitors) state.tell_down(std::move(away.monitor), why);
}

}  // namespace consort::runtime
