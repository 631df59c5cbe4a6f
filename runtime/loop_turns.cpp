// How a loop goes round: sources, inbox, timers, actors. One handler at a time, each to its end.
#include <algorithm>
#include <exception>
#include <utility>

#include "runtime/loop_state.hpp"
#include "runtime/posix/sleeper.hpp"
#include "runtime/trace.hpp"

namespace consort::runtime {
namespace {

// Bounds of one round, so that none of the four starves the others. A turn is a few microseconds.
constexpr int kTimersPerRound = 64;
constexpr int kPostsPerRound = 64;
constexpr int kTurnsPerRound = 64;
// Without an event the loop looks round this often all the same: sources without a descriptor live on it.
constexpr Duration kLongestSleep = std::chrono::milliseconds(10);
// A trace shows turns from 10 us on; shorter ones would push everything else out of its ring.
constexpr Duration kTracedTurn = std::chrono::microseconds(10);
constexpr Duration kDataStall = std::chrono::milliseconds(1);
constexpr Duration kSystemStall = std::chrono::milliseconds(5);

}  // namespace

EventLoop::EventLoop(NodeId node, LoopLimits limits) : state_(std::make_unique<State>(*this, limits)), node_(node) {}

// As a crash: no on_stop, no word to other nodes, and the env is not touched; it may be gone already.
EventLoop::~EventLoop() {
  remote_ = nullptr;
  state_->observer = nullptr;
  state_->inbox->close();
  state_->in_turn = true;
  state_->actors.for_each([&](ActorCell& cell) {
    cell.ending = true;
    state_->drop_asks(cell);
  });
  state_->actors.for_each([&](ActorCell& cell) {
    state_->drop_queues(cell);
    std::unique_ptr<Actor> life = std::move(cell.actor);
  });
  // What waits may hold a ReplyTo, whose destructor needs the rest of the state.
  const auto dropped_timers = std::exchange(state_->timers, {});
  const auto dropped_monitors = std::exchange(state_->away_monitors, {});
}

void EventLoop::set_env(Env& env) {
  CONSORT_CHECK(env_ == nullptr);
  env_ = &env;
  state_->read_clock();
}

Instant EventLoop::now() const { return state_->now; }

void EventLoop::State::read_clock() {
  CONSORT_CHECK(loop.env_ != nullptr, "set_env() comes first");
  now = loop.env_->clock.now();
}

void EventLoop::add_source(EventSource& source) {
  state_->sources.push_back(&source);
  ++state_->sources_version;
}

void EventLoop::remove_source(EventSource& source) {
  std::erase(state_->sources, &source);
  ++state_->sources_version;
}

void EventLoop::set_observer(std::function<void(ActorId, MessageKind)> observer) {
  state_->observer = std::move(observer);
}

template <class Body>
void EventLoop::State::run_turn(ActorCell* cell, MessageClass message_class, MessageKind kind, Body body) {
  CONSORT_CHECK(!in_turn, "a handler runs within a handler");
  const ActorId actor = cell == nullptr ? ActorId{} : cell->id;
  in_turn = true;
  current = cell;
  try {
    body();
  } catch (const std::exception& error) {
    // An exception that left a handler ends that actor; what is nobody's turn has nobody to blame.
    CONSORT_CHECK(cell != nullptr, error.what());
    endings.push_back({actor, Error{ErrorKind::kInternal, std::string("exception: ") + error.what()}});
  }
  current = nullptr;
  in_turn = false;
  note_turn(actor, message_class, kind);
  if (observer) observer(actor, kind);
  if (!endings.empty()) process_endings();
}

// The end of this turn is the beginning of the next: one look at the clock serves both.
void EventLoop::State::note_turn(ActorId actor, MessageClass message_class, MessageKind kind) {
  const Instant begin = now;
  read_clock();
  const Duration took = now - begin;
  ++counts.turns;
  counts.longest_turn = std::max(counts.longest_turn, took);
  if (took < kTracedTurn) return;
  const bool stalled = took > (message_class == MessageClass::kSystem ? kSystemStall : kDataStall);
  if (stalled) ++counts.stalls;
  loop.env_->trace.record(
      {stalled ? "stall" : "turn", "loop", begin, took, static_cast<std::int64_t>(actor.packed()), kind});
}

void EventLoop::State::enqueue(ActorCell& cell, MessageClass message_class, ActorItem item) {
  cell.queues[static_cast<std::size_t>(message_class)].push(std::move(item));
  ready.add(cell, message_class);
}

void EventLoop::State::take_item(ActorCell& cell, MessageClass message_class) {
  const auto c = static_cast<std::size_t>(message_class);
  ActorItem item = cell.queues[c].pop();
  if (!cell.queues[c].empty()) ready.add(cell, message_class);
  if (auto* incoming = std::get_if<Incoming>(&item)) {
    --cell.messages[c];
    if (incoming->context.deadline <= now) {
      // Its asker has its kTimedOut, or will within a moment: no work for nobody.
      return refuse(*incoming, {ErrorKind::kTimedOut, "the deadline passed before the message was taken"});
    }
    const auto kind = incoming->kind;
    run_turn(&cell, message_class, kind, [&] { cell.actor->receive(std::move(*incoming)); });
  } else if (auto* turn = std::get_if<Callback<void()>>(&item)) {
    run_turn(&cell, message_class, 0, [&] { (*turn)(); });
  } else if (const auto* ask_done = std::get_if<AskDone>(&item)) {
    AskTable::Ask ask = asks.close(ask_done->slot);
    --cell.open_asks;
    run_turn(&cell, message_class, ask.reply_kind, [&] {
      if (ask.continuation) ask.continuation(std::move(*ask.outcome));
    });
  } else {
    run_turn(&cell, message_class, 0, [&] { cell.actor->on_start(); });
  }
}

bool EventLoop::State::run_ready(Rng* rng) {
  const auto next = ready.take(rng);
  if (!next) return false;
  take_item(*next->cell, next->message_class);
  return true;
}

bool EventLoop::State::fire_due_timer() {
  auto due = timers.pop_due(now);
  if (!due) return false;
  ActorCell* cell = nullptr;
  if (due->owner) {
    cell = actors.find_exact(*due->owner);
    if (cell == nullptr) return true;
  }
  run_turn(cell, MessageClass::kSystem, 0, [&] { due->callback(); });
  return true;
}

bool EventLoop::State::take_posted() {
  auto posted = inbox->pop();
  if (!posted) return false;
  if (!posted->actor) {
    run_turn(nullptr, MessageClass::kSystem, 0, [&] { posted->run(); });
    return true;
  }
  if (ActorCell* cell = actors.find_exact(*posted->actor)) {
    enqueue(*cell, MessageClass::kSystem, Callback<void()>(std::move(posted->run)));
  }
  return true;
}

bool EventLoop::turn() {
  State& state = *state_;
  state.read_clock();
  bool did = false;
  // By index: a source may add or remove sources.
  for (std::size_t i = 0; i < state.sources.size(); ++i) did |= state.sources[i]->poll();
  for (int i = 0; i < kPostsPerRound && state.take_posted(); ++i) did = true;
  state.read_clock();
  for (int i = 0; i < kTimersPerRound && state.fire_due_timer(); ++i) did = true;
  for (int i = 0; i < kTurnsPerRound && state.run_ready(nullptr); ++i) did = true;
  return did;
}

bool EventLoop::run_one(Rng& rng) {
  state_->read_clock();
  return state_->run_ready(&rng);
}

bool EventLoop::has_ready() const { return !state_->ready.empty(); }

bool EventLoop::fire_one_timer() {
  state_->read_clock();
  return state_->fire_due_timer();
}

std::optional<Instant> EventLoop::next_timer() const { return state_->timers.next(); }

void EventLoop::drain_inbox() {
  state_->read_clock();
  while (state_->take_posted()) {
  }
}

void EventLoop::stop() {
  state_->stopping.store(true);
  state_->inbox->wake();
}

void EventLoop::run(Duration spin) {
  State& state = *state_;
  posix::Sleeper sleeper(*state.inbox);
  Instant last_work = env_->clock.now();
  while (!state.stopping.load(std::memory_order_acquire)) {
    if (turn()) {
      last_work = state.now;
      continue;
    }
    if (spin > Duration::zero() && env_->clock.now() - last_work < spin) continue;
    Duration longest = kLongestSleep;
    if (const auto next = state.timers.next()) longest = std::clamp(*next - state.now, Duration::zero(), kLongestSleep);
    ++state.counts.sleeps;
    sleeper.sleep(state.sources, state.sources_version, longest);
  }
  state.stopping.store(false);
}

bool EventLoop::run_until(const std::function<bool()>& done, Instant deadline) {
  State& state = *state_;
  posix::Sleeper sleeper(*state.inbox);
  while (!done()) {
    if (turn()) continue;
    if (state.now >= deadline) return false;
    Duration longest = std::min<Duration>(kLongestSleep, deadline - state.now);
    if (const auto next = state.timers.next()) longest = std::clamp(*next - state.now, Duration::zero(), longest);
    sleeper.sleep(state.sources, state.sources_version, longest);
  }
  return true;
}

TimerId EventLoop::at(Instant when, std::function<void()> callback) {
  return state_->timers.add(when, std::nullopt, Callback<void()>(std::move(callback)));
}

void EventLoop::cancel(TimerId id) { state_->timers.cancel(id); }

TimerId EventLoop::actor_timer(ActorId actor, Duration delay, Callback<void()> callback) {
  return state_->timers.add(state_->now + delay, actor, std::move(callback));
}

void EventLoop::actor_compute(ActorId actor, DeviceWork work, MessageClass urgency, Callback<void()> then) {
  CONSORT_CHECK(env_->device != nullptr, "this process has no device");
  auto shared = std::make_shared<Callback<void()>>(std::move(then));
  env_->device->submit(std::move(work), urgency,
                       [poster = poster(), actor, shared] { poster.post(actor, [shared] { (*shared)(); }); });
}

Poster EventLoop::poster() const {
  Poster poster;
  poster.inbox_ = state_->inbox;
  return poster;
}

LoopCounts EventLoop::counts() const { return state_->counts; }
std::size_t EventLoop::outstanding_asks() const { return state_->asks.size(); }
std::uint64_t EventLoop::dead_letter_count(ErrorKind reason) const { return state_->dead.count(reason); }
std::vector<DeadLetter> EventLoop::recent_dead_letters() const { return state_->dead.recent(); }
void EventLoop::note_dead_letter(DeadLetter letter) { state_->dead.note(letter); }

}  // namespace consort::runtime
