// How a watcher hears, once, that an actor is gone: at its end, here or on another node, or when its node goes.
//
// Between nodes: tells of kind 0, the runtime's own. Metadata: u8 what, u64 token (little endian), and for kDown the
// content of an error reply. kWatch and kUnwatch go to the watched actor's node, kDown comes back to the watcher.
#include <algorithm>
#include <utility>

#include "runtime/error_reply.hpp"
#include "runtime/loop_state.hpp"

namespace consort::runtime {
namespace {

enum class Watch : std::uint8_t { kWatch = 1, kDown = 2, kUnwatch = 3 };
constexpr std::size_t kWatchBytes = 1 + 8;
// Of one actor by other nodes. Watchers are roles of other nodes, a handful each; beyond it they hear kExhausted.
constexpr std::size_t kMaxRemoteWatchers = 4096;

WireMessage encode_watch(Watch what, std::uint64_t token, const Error* reason = nullptr) {
  WireMessage message;
  message.metadata.push_back(static_cast<std::byte>(what));
  for (int shift = 0; shift < 64; shift += 8) message.metadata.push_back(static_cast<std::byte>(token >> shift));
  if (reason != nullptr) {
    const auto error = encode_error(*reason);
    message.metadata.insert(message.metadata.end(), error.begin(), error.end());
  }
  return message;
}

}  // namespace

Status EventLoop::State::send_watch(ActorRef source, ActorRef target, WireMessage message) {
  if (loop.remote_ == nullptr) return failure(ErrorKind::kPeerDown, "the node cannot be reached: there is no cluster");
  return loop.remote_->deliver({target, source, FrameType::kTell, MessageClass::kSystem, kRuntimeKind, {}, 0,
                                Instant::max(), std::move(message)});
}

void EventLoop::monitor(ActorId watcher, ActorRef target, Callback<void(Down)> callback) {
  State& state = *state_;
  LocalMonitor monitor{watcher, target, std::move(callback)};
  if (!state.is_here(target)) return state.monitor_away(std::move(monitor));
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

void EventLoop::State::monitor_away(LocalMonitor monitor) {
  const auto token = next_monitor_token++;
  const Status sent = send_watch({loop.node_, loop.incarnation_, monitor.watcher}, monitor.target,
                                 encode_watch(Watch::kWatch, token));
  if (!sent.ok()) return tell_down(std::move(monitor), sent.error());
  away_monitors[monitor.target.node].push_back({token, std::move(monitor)});
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
  for (auto& monitor : std::exchange(cell.monitors, {})) tell_down(std::move(monitor), reason);
  // A watcher that cannot be reached hears of its lost node instead.
  for (const auto& remote : std::exchange(cell.remote_watchers, {})) {
    [[maybe_unused]] const Status sent =
        send_watch(ref_of(cell), remote.watcher, encode_watch(Watch::kDown, remote.token, &reason));
  }
}

void EventLoop::State::drop_away_monitors(ActorId watcher) {
  for (auto& [node, monitors] : away_monitors) {
    std::erase_if(monitors, [&](const AwayMonitor& away) {
      if (away.monitor.watcher != watcher) return false;
      [[maybe_unused]] const Status sent = send_watch({loop.node_, loop.incarnation_, watcher}, away.monitor.target,
                                                      encode_watch(Watch::kUnwatch, away.token));
      return true;
    });
  }
}

// A tell of kind 0 from another node.
void EventLoop::State::receive_watch(const FrameHeader& header, std::span<const std::byte> metadata) {
  const ActorRef source{header.source_node, header.source_incarnation, header.source_actor};
  const ActorRef target{loop.node_, loop.incarnation_, header.target_actor};
  std::uint64_t token = 0;
  if (metadata.size() >= kWatchBytes) {
    for (std::size_t i = 0; i < 8; ++i) token |= static_cast<std::uint64_t>(metadata[1 + i]) << (8 * i);
  }
  const auto what = metadata.size() < kWatchBytes ? 0 : static_cast<int>(metadata[0]);
  if (what == static_cast<int>(Watch::kWatch)) {
    ActorCell* cell = actors.find(header.target_actor);
    std::optional<Error> gone;
    if (cell == nullptr) {
      gone = Error{ErrorKind::kNoActor, "the actor was gone before it was watched"};
    } else if (std::find(cell->remote_watchers.begin(), cell->remote_watchers.end(), RemoteWatcher{source, token}) !=
               cell->remote_watchers.end()) {
      return;  // said again after a wire broke
    } else if (cell->remote_watchers.size() >= kMaxRemoteWatchers) {
      gone = Error{ErrorKind::kExhausted, "too many other actors watch this one"};
    } else {
      cell->remote_watchers.push_back({source, token});
    }
    if (!gone) return;
    [[maybe_unused]] const Status sent = send_watch(target, source, encode_watch(Watch::kDown, token, &*gone));
  } else if (what == static_cast<int>(Watch::kUnwatch)) {
    ActorCell* cell = actors.find(header.target_actor);
    if (cell == nullptr) return;
    std::erase_if(cell->remote_watchers, [&](const RemoteWatcher& r) { return r.watcher == source && r.token == token; });
  } else if (what == static_cast<int>(Watch::kDown)) {
    const auto found = away_monitors.find(header.source_node);
    if (found == away_monitors.end()) return;
    auto& monitors = found->second;
    const auto which = std::find_if(monitors.begin(), monitors.end(), [&](const AwayMonitor& a) { return a.token == token; });
    if (which == monitors.end()) return;  // the watcher ended, or its node was declared down before
    LocalMonitor monitor = std::move(which->monitor);
    monitors.erase(which);
    tell_down(std::move(monitor), decode_error(metadata.subspan(kWatchBytes)));
  } else {
    dead.note({ErrorKind::kMalformed, header.kind, source, target});
  }
}

void EventLoop::watch_again(NodeId peer) {
  State& state = *state_;
  const auto found = state.away_monitors.find(peer);
  if (found == state.away_monitors.end()) return;
  for (const auto& away : found->second) {
    // Where this is lost too, the wire broke again and this is called again, or the node is declared down.
    [[maybe_unused]] const Status sent = state.send_watch({node_, incarnation_, away.monitor.watcher},
                                                          away.monitor.target, encode_watch(Watch::kWatch, away.token));
  }
}

void EventLoop::peer_down(NodeId peer, Error why) {
  State& state = *state_;
  state.read_clock();
  for (const auto slot : state.asks.at_node(peer)) state.complete(slot, why);
  state.actors.for_each([&](ActorCell& cell) {
    std::erase_if(cell.remote_watchers, [&](const RemoteWatcher& remote) { return remote.watcher.node == peer; });
  });
  const auto found = state.away_monitors.find(peer);
  if (found == state.away_monitors.end()) return;
  auto monitors = std::move(found->second);
  state.away_monitors.erase(found);
  for (auto& away : monitors) state.tell_down(std::move(away.monitor), why);
}

}  // namespace consort::runtime
