#include "runtime/timer_queue.hpp"

#include <utility>

namespace consort::runtime {
namespace {

TimerId make_id(std::uint32_t generation, std::uint32_t index) { return (TimerId{generation} << 32) | index; }

}  // namespace

TimerId TimerQueue::add(Instant when, std::optional<ActorId> owner, Callback<void()> callback) {
  std::uint32_t index;
  if (free_.empty()) {
    index = static_cast<std::uint32_t>(timers_.size());
    timers_.emplace_back();
  } else {
    index = free_.back();
    free_.pop_back();
  }
  Timer& timer = timers_[index];
  timer.when = when;
  timer.sequence = sequence_++;
  timer.owner = owner;
  timer.callback = std::move(callback);
  heap_.push_back(index);
  place(heap_.size() - 1, index);
  sift_up(heap_.size() - 1);
  return make_id(timer.generation, index);
}

void TimerQueue::cancel(TimerId id) {
  const auto index = static_cast<std::uint32_t>(id);
  if (index >= timers_.size()) return;
  const Timer& timer = timers_[index];
  if (timer.generation != static_cast<std::uint32_t>(id >> 32) || timer.heap_place == kNotInHeap) return;
  // Destroyed only after the queue is whole again: a capture's destructor may come back here.
  const Callback<void()> dropped = take(index);
}

void TimerQueue::cancel_all_of(ActorId owner) {
  std::vector<Callback<void()>> dropped;
  for (std::uint32_t i = 0; i < timers_.size(); ++i) {
    if (timers_[i].heap_place != kNotInHeap && timers_[i].owner == owner) dropped.push_back(take(i));
  }
}

std::optional<Instant> TimerQueue::next() const {
  if (heap_.empty()) return std::nullopt;
  return timers_[heap_.front()].when;
}

std::optional<TimerQueue::Due> TimerQueue::pop_due(Instant now) {
  if (heap_.empty() || timers_[heap_.front()].when > now) return std::nullopt;
  const auto index = heap_.front();
  Due due;
  due.owner = timers_[index].owner;
  due.callback = take(index);
  return due;
}

bool TimerQueue::earlier(std::uint32_t a, std::uint32_t b) const {
  const Timer& x = timers_[a];
  const Timer& y = timers_[b];
  return x.when != y.when ? x.when < y.when : x.sequence < y.sequence;
}

void TimerQueue::place(std::size_t at, std::uint32_t timer) {
  heap_[at] = timer;
  timers_[timer].heap_place = static_cast<std::uint32_t>(at);
}

void TimerQueue::sift_up(std::size_t at) {
  const auto timer = heap_[at];
  while (at > 0) {
    const std::size_t parent = (at - 1) / 2;
    if (!earlier(timer, heap_[parent])) break;
    place(at, heap_[parent]);
    at = parent;
  }
  place(at, timer);
}

void TimerQueue::sift_down(std::size_t at) {
  const auto timer = heap_[at];
  for (;;) {
    std::size_t child = 2 * at + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && earlier(heap_[child + 1], heap_[child])) ++child;
    if (!earlier(heap_[child], timer)) break;
    place(at, heap_[child]);
    at = child;
  }
  place(at, timer);
}

Callback<void()> TimerQueue::take(std::uint32_t index) {
  Timer& timer = timers_[index];
  const std::size_t at = timer.heap_place;
  const auto last = heap_.back();
  heap_.pop_back();
  if (last != index) {
    place(at, last);
    sift_up(at);
    sift_down(timers_[last].heap_place);
  }
  timer.heap_place = kNotInHeap;
  ++timer.generation;
  if (timer.generation == 0) timer.generation = 1;  // so that no id is 0
  timer.owner.reset();
  free_.push_back(index);
  return std::exchange(timer.callback, {});
}

}  // namespace consort::runtime
