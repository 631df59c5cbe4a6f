// How a world goes on: what happens next, and who is told. world_processes.cpp has how processes begin and end.
#include "runtime/simulated/world.hpp"

#include <algorithm>
#include <utility>

namespace consort::runtime {
namespace {

constexpr Instant kFirstInstant{std::chrono::seconds(1)};  // not 0, which would hide a forgotten time

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9FB21C651E98DF25u;
  return hash ^ (hash >> 29);
}

}  // namespace

std::string_view name(SimEventKind kind) {
  switch (kind) {
    case SimEventKind::kTurn:
      return "turn";
    case SimEventKind::kFrame:
      return "frame";
    case SimEventKind::kTimer:
      return "timer";
    case SimEventKind::kDevice:
      return "device";
    case SimEventKind::kDisk:
      return "disk";
    case SimEventKind::kPeer:
      return "peer";
    case SimEventKind::kStart:
      return "start";
    case SimEventKind::kExit:
      return "exit";
  }
  return "unknown";
}

World::World(std::uint64_t seed, WorldModel model)
    : model_(model), now_(kFirstInstant), seeds_(seed), order_(seeds_.next()), chance_(seeds_.next()), hash_(seed) {
  network_ = std::make_unique<SimNetwork>(*this, model.control, model.data, model.reconnect, Rng(seeds_.next()));
}

// Without word to anybody: observers and callbacks of the scenario may be gone.
World::~World() {
  observers_.clear();
  for (auto& process : processes_) {
    if (!process->ended_) end_now(*process, "the world ends");
  }
}

SimEvent World::event_of(SimEventKind kind, const SimProcess& process) {
  SimEvent event;
  event.kind = kind;
  event.node = process.node_;
  event.process = process.index_;
  return event;
}

Duration World::slowed(std::uint32_t process, Duration time) const {
  const double factor = processes_[process]->slowness_;
  if (factor == 1) return time;
  return Duration(static_cast<std::int64_t>(static_cast<double>(time.count()) * factor));
}

// --- one event -----------------------------------------------------------------------------------------------------

bool World::step() {
  touched_ = true;
  return step_by(Instant::max());
}

bool World::step_by(Instant last) {
  for (;;) {
    run_planned_actions();
    if (std::exchange(touched_, false)) settle_all();
    if (agenda_.empty() || agenda_.first().time > last) return false;
    const AgendaEntry entry = agenda_.take();
    now_ = std::max(now_, entry.time);
    if (entry.what == Happening::kAction) {
      std::exchange(timed_actions_[entry.item], {})();
      touched_ = true;
      continue;
    }
    SimProcess& process = *processes_[entry.process];
    if (process.ended_) continue;
    if (entry.what == Happening::kResume) {
      if (process.pause_number_ == entry.item) resume(process);
      continue;
    }
    if (process.paused_) {
      process.held_.push_back(entry);
      continue;
    }
    current_ = entry.process;
    const auto event = happen(entry);
    settle(process);
    current_ = kNobody;
    for (auto& [index, why] : std::exchange(ending_, {})) end_now(*processes_[index], why);
    if (event) {
      finish(*event);
      return true;
    }
  }
}

std::optional<SimEvent> World::happen(const AgendaEntry& entry) {
  SimProcess& process = *processes_[entry.process];
  switch (entry.what) {
    case Happening::kTurn:
      return turn(process);
    case Happening::kTimer:
      return timer(process);
    default:
      break;
  }
  if (process.life_ != nullptr) process.life_->loop.drain_inbox();  // its clock is read with it
  switch (entry.what) {
    case Happening::kParcel:
      return network_->parcel_arrives(entry.item);
    case Happening::kSignal:
      return network_->signal_arrives(entry.item);
    case Happening::kReconnect:
      network_->reconnect(entry.item);
      return std::nullopt;
    case Happening::kDevice:
      process.life_->device.complete();
      return event_of(SimEventKind::kDevice, process);
    case Happening::kDisk:
      process.life_->disk.complete_first();
      return event_of(SimEventKind::kDisk, process);
    case Happening::kStart:
      begin(process);
      return event_of(SimEventKind::kStart, process);
    case Happening::kExit:
      return tell_exit(process, entry.item);
    default:
      return std::nullopt;
  }
}

std::optional<SimEvent> World::turn(SimProcess& process) {
  SimProcess::Life& life = *process.life_;
  process.turn_planned_ = false;
  life.last_actor = {};
  life.last_kind = 0;
  if (!life.loop.run_one(order_)) return std::nullopt;
  const auto cost = static_cast<std::uint64_t>(model_.turn_cost.count());
  process.free_at_ =
      now_ + slowed(process.index_, Duration(static_cast<std::int64_t>(cost + (cost == 0 ? 0 : order_.below(cost)))));
  SimEvent event = event_of(SimEventKind::kTurn, process);
  event.actor = life.last_actor;
  event.message_kind = life.last_kind;
  return event;
}

std::optional<SimEvent> World::timer(SimProcess& process) {
  SimProcess::Life& life = *process.life_;
  process.timer_planned_ = Instant::max();
  life.last_actor = {};
  if (!life.loop.fire_one_timer()) return std::nullopt;
  SimEvent event = event_of(SimEventKind::kTimer, process);
  event.actor = life.last_actor;
  return event;
}

std::optional<SimEvent> World::tell_exit(SimProcess& process, std::uint64_t exit) {
  process.life_->spawner.tell(exits_[exit]);
  SimEvent event = event_of(SimEventKind::kExit, process);
  event.detail = static_cast<std::uint32_t>(exits_[exit].process);
  return event;
}

void World::settle(SimProcess& process) {
  if (process.life_ == nullptr) return;
  EventLoop& loop = process.life_->loop;
  loop.drain_inbox();
  if (!process.turn_planned_ && loop.has_ready()) {
    process.turn_planned_ = true;
    agenda_.add(std::max(now_, process.free_at_), Happening::kTurn, process.index_);
  }
  if (const auto next = loop.next_timer(); next && *next < process.timer_planned_) {
    process.timer_planned_ = *next;
    agenda_.add(std::max(now_, *next), Happening::kTimer, process.index_);
  }
}

void World::settle_all() {
  for (std::size_t i = 0; i < processes_.size(); ++i) {
    current_ = static_cast<std::uint32_t>(i);
    settle(*processes_[i]);
    current_ = kNobody;
    for (auto& [index, why] : std::exchange(ending_, {})) end_now(*processes_[index], why);
  }
}

void World::finish(SimEvent event) {
  event.index = event_count_++;
  event.time = now_;
  hash_ = mix(hash_, static_cast<std::uint64_t>(now_.time_since_epoch().count()));
  hash_ = mix(hash_, (std::uint64_t{event.node.value} << 32) | (static_cast<std::uint64_t>(event.kind) << 24) |
                         event.message_kind);
  hash_ = mix(hash_, event.actor.packed());
  hash_ = mix(hash_, (std::uint64_t{event.peer.value} << 32) | (event.checksum ^ event.detail));
  for (const auto& observer : observers_) observer(event);
}

// --- running -------------------------------------------------------------------------------------------------------

Status World::run_until(const std::function<bool()>& predicate, std::string_view waiting_for, Limits limits) {
  touched_ = true;
  const Instant last = now_ + limits.time;
  const std::uint64_t last_event = event_count_ + limits.events;
  while (!predicate()) {
    std::string why;
    if (event_count_ >= last_event) {
      why = std::to_string(limits.events) + " events";
    } else if (!step_by(last)) {
      if (predicate()) return done();
      why = agenda_.empty() ? "all that could happen"
                            : std::to_string(limits.time / std::chrono::milliseconds(1)) + " ms of virtual time";
    }
    if (!why.empty()) {
      return failure(ErrorKind::kTimedOut,
                     "gave up after " + why + " waiting for: " + std::string(waiting_for) + "\n" + describe());
    }
  }
  return done();
}

void World::run_for(Duration time) {
  touched_ = true;
  const Instant end = now_ + time;
  while (step_by(end)) {
  }
  now_ = end;
}

void World::run_planned_actions() {
  while (!event_actions_.empty() && event_actions_.begin()->first <= event_count_) {
    auto first = event_actions_.extract(event_actions_.begin());
    first.mapped()();
    touched_ = true;
  }
}

void World::at_event(std::uint64_t index, std::function<void()> action) {
  event_actions_.emplace(index, std::move(action));
}

void World::at(Instant time, std::function<void()> action) {
  timed_actions_.push_back(std::move(action));
  agenda_.add(std::max(now_, time), Happening::kAction, 0, timed_actions_.size() - 1);
}

void World::add_observer(std::function<void(const SimEvent&)> observer) { observers_.push_back(std::move(observer)); }

// --- what is going on ------------------------------------------------------------------------------------------------

std::vector<std::string> World::not_at_rest(bool parcels_too) {
  std::vector<std::string> rests;
  const auto note = [&](const std::string& who, std::size_t count, std::string_view what) {
    if (count != 0) rests.push_back(who + ": " + std::to_string(count) + " " + std::string(what));
  };
  for (const auto& process : processes_) {
    if (process->life_ == nullptr) continue;
    SimProcess::Life& life = *process->life_;
    note(process->name_, life.loop.outstanding_asks(), "outstanding asks");
    note(process->name_, life.device.queued(), "pieces of device work");
    note(process->name_, life.disk.pending(), "unsynced appends");
    for (const auto& [what, count] : life.rest_checks) note(process->name_, count(), what);
  }
  if (parcels_too) note("the network", network_->under_way(), "parcels under way");
  return rests;
}

std::string World::describe() {
  std::string text = "at " + std::to_string(now_.time_since_epoch() / std::chrono::microseconds(1)) + " us, event " +
                     std::to_string(event_count_) + ", " + std::to_string(network_->under_way()) +
                     " parcels under way\n";
  for (const auto& process : processes_) {
    text += "  " + process->name_ + " (node " + std::to_string(process->node_.value) + "): ";
    if (process->ended_) {
      text += "ended: " + process->end_reason_ + "\n";
      continue;
    }
    if (process->life_ == nullptr) {
      text += "starting\n";
      continue;
    }
    SimProcess::Life& life = *process->life_;
    if (process->paused_) text += "paused, " + std::to_string(process->held_.size()) + " happenings held, ";
    text += std::to_string(life.loop.outstanding_asks()) + " asks, " + std::to_string(life.device.queued()) +
            " device work, " + (life.loop.has_ready() ? "ready" : "idle");
    if (const auto next = life.loop.next_timer()) {
      text += ", next timer in " + std::to_string((*next - now_) / std::chrono::microseconds(1)) + " us";
    }
    text += "\n";
  }
  return text;
}

}  // namespace consort::runtime
