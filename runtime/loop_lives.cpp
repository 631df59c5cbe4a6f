// How actors begin, end and begin again: families, supervision, escalation.
#include <algorithm>
#include <utility>

#include "runtime/loop_state.hpp"

namespace consort::runtime {
namespace {

// Drops what is older than the window, adds now, and says how many there are.
int count_within(std::deque<Instant>& times, Instant now, Duration window) {
  while (!times.empty() && now - times.front() > window) times.pop_front();
  times.push_back(now);
  return static_cast<int>(times.size());
}

// 1st failure: first_backoff, then twice as long each time, up to last_backoff.
Duration backoff(const Supervision& supervision, int failures) {
  Duration wait = supervision.first_backoff;
  for (int i = 1; i < failures && wait < supervision.last_backoff; ++i) wait *= 2;
  return std::min(wait, supervision.last_backoff);
}

}  // namespace

ActorRef EventLoop::spawn_root(std::uint16_t type, std::uint32_t index, std::function<std::unique_ptr<Actor>()> make) {
  return state_->spawn(nullptr, type, index, std::move(make));
}

ActorRef EventLoop::spawn_child(ActorId parent, std::uint16_t type, std::uint32_t index,
                                std::function<std::unique_ptr<Actor>()> make) {
  ActorCell* cell = state_->actors.find_exact(parent);
  CONSORT_CHECK(cell != nullptr, "an actor that ends starts no children", parent.type, parent.index);
  return state_->spawn(cell, type, index, std::move(make));
}

ActorRef EventLoop::State::spawn(ActorCell* parent, std::uint16_t type, std::uint32_t index,
                                 std::function<std::unique_ptr<Actor>()> make) {
  ActorCell& cell = actors.create(type, index);
  cell.parent = parent;
  cell.make = std::move(make);
  (parent == nullptr ? actors.roots() : parent->children).push_back(&cell);
  start(cell);
  return ref_of(cell);
}

void EventLoop::State::start(ActorCell& cell) {
  cell.actor = cell.make();
  CONSORT_CHECK(cell.actor != nullptr, cell.id.type, cell.id.index);
  cell.actor->loop_ = &loop;
  cell.actor->self_ = ref_of(cell);
  // System class, and nothing is queued before it: on_start comes before every message.
  enqueue(cell, MessageClass::kSystem, Begin{});
}

void EventLoop::set_incarnation(Incarnation incarnation) {
  incarnation_ = incarnation;
  state_->actors.for_each([&](ActorCell& cell) {
    if (cell.actor != nullptr) cell.actor->self_.incarnation = incarnation;
  });
}

void EventLoop::stop_actor(ActorId actor) {
  const ActorCell* cell = state_->actors.find(actor);
  if (cell != nullptr) actor_ends(cell->id, std::nullopt);
}

void EventLoop::actor_ends(ActorId actor, std::optional<Error> failure) {
  state_->end_after_turn(actor, std::move(failure));
}

void EventLoop::State::end_after_turn(ActorId actor, std::optional<Error> failure) {
  endings.push_back({actor, std::move(failure)});
  if (!in_turn) process_endings();
}

void EventLoop::State::process_endings() {
  // By index: an end may bring further ones (escalation, an on_stop that stops others).
  for (std::size_t i = 0; i < endings.size(); ++i) {
    const Ending ending = std::move(endings[i]);
    ActorCell* cell = actors.find_exact(ending.actor);
    if (cell == nullptr) continue;
    if (ending.failure) {
      supervise(*cell, *ending.failure);
    } else {
      end_and_remove(*cell, {ErrorKind::kCancelled, "the actor stopped"});
    }
  }
  endings.clear();
}

void EventLoop::State::end_and_remove(ActorCell& cell, const Error& reason) {
  end_life(cell, reason);
  actors.remove(cell);
}

void EventLoop::State::end_life(ActorCell& cell, const Error& reason) {
  timers.cancel(std::exchange(cell.restart_timer, 0));
  if (cell.actor == nullptr) return;  // between two lives
  const bool was_in_turn = std::exchange(in_turn, true);
  cell.ending = true;
  const Error orphaned{ErrorKind::kCancelled, "its supervisor ended: " + reason.text};
  while (!cell.children.empty()) end_and_remove(*cell.children.back(), orphaned);
  current = &cell;
  cell.actor->on_stop();
  current = nullptr;
  timers.cancel_all_of(cell.id);
  drop_asks(cell);
  drop_queues(cell);
  drop_away_monitors(cell.id);
  ready.remove(cell);
  // Only now the object: what it owes (ReplyTo) is answered with kCancelled by its destructor.
  std::unique_ptr<Actor> life = std::move(cell.actor);
  life.reset();
  cell.ending = false;
  cell.child_restarts.clear();
  fire_monitors(cell, reason);
  in_turn = was_in_turn;
}

void EventLoop::State::drop_asks(ActorCell& cell) {
  if (cell.open_asks == 0) return;
  std::vector<AskTable::Ask> dropped;  // destroyed after all are unlinked: captures may hold a ReplyTo
  for (const auto slot : asks.of_asker(cell.id)) {
    dropped.push_back(asks.close(slot));
    timers.cancel(dropped.back().deadline);
  }
  cell.open_asks = 0;
}

void EventLoop::State::drop_queues(ActorCell& cell) {
  for (auto& queue : cell.queues) {
    while (!queue.empty()) {
      ActorItem item = queue.pop();
      auto* incoming = std::get_if<Incoming>(&item);
      if (incoming != nullptr) refuse(*incoming, {ErrorKind::kNoActor, "the actor ended before it took the message"});
    }
  }
  cell.messages.fill(0);
}

// A child that fails begins again after a back-off, by the rule of its supervisor; one that fails too often makes the
// supervisor fail. Roots are supervised by the loop, one by one; beyond their restarts the process ends.
void EventLoop::State::supervise(ActorCell& cell, const Error& failure) {
  ActorCell* parent = cell.parent;
  const Supervision how = parent == nullptr ? Supervision{} : parent->actor->supervision();
  const int failures = count_within(cell.failures, now, how.window);
  const int restarts = parent == nullptr ? failures : count_within(parent->child_restarts, now, how.window);
  const ActorId place = cell.id;
  const std::string name = "actor " + std::to_string(place.type) + "/" + std::to_string(place.index);
  if (restarts > how.intensity) {
    const Error too_often{failure.kind, name + " failed " + std::to_string(restarts) + " times within " +
                                            std::to_string(how.window / std::chrono::seconds(1)) +
                                            " s, the last time: " + failure.text};
    if (parent != nullptr) {
      end_life(cell, failure);
      endings.push_back({parent->id, too_often});
    } else {
      end_and_remove(cell, failure);
      loop.env().terminator.terminate(too_often.text);
    }
    return;
  }
  end_life(cell, failure);
  if (parent != nullptr && how.restart != Restart::kOneForOne) {
    // Those that must go along: all, or those that were started after the one that failed. Latest first.
    const auto from = how.restart == Restart::kOneForAll
                          ? parent->children.begin()
                          : std::find(parent->children.begin(), parent->children.end(), &cell);
    const std::vector<ActorCell*> along(from, parent->children.end());
    const Error reason{ErrorKind::kCancelled, "restarted with " + name + ": " + failure.text};
    for (auto child = along.rbegin(); child != along.rend(); ++child) end_life(**child, reason);
  }
  cell.restart_timer = timers.add(now + backoff(how, failures), std::nullopt,
                                  [this, place, rule = how.restart] { restart(place, rule); });
}

void EventLoop::State::restart(ActorId place, Restart how) {
  ActorCell* failed = nullptr;
  actors.for_each([&](ActorCell& cell) {
    if (cell.id == place) failed = &cell;
  });
  CONSORT_CHECK(failed != nullptr && failed->actor == nullptr, place.type, place.index);
  failed->restart_timer = 0;
  std::vector<ActorCell*> group{failed};
  if (how != Restart::kOneForOne) {
    auto& family = failed->parent->children;
    const auto from = how == Restart::kOneForAll ? family.begin() : std::find(family.begin(), family.end(), failed);
    group.assign(from, family.end());
  }
  for (ActorCell* cell : group) {
    if (cell->actor != nullptr) continue;
    timers.cancel(std::exchange(cell->restart_timer, 0));
    actors.renew(*cell);
    start(*cell);
  }
}

}  // namespace consort::runtime
