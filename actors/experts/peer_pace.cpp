#include "actors/experts/peer_pace.hpp"

#include <algorithm>

namespace consort::actors {

using runtime::Duration;
using runtime::Instant;

void PeerPace::note_answer(Duration took) { answers_[answer_count_++ % kWindow] = took; }

Duration PeerPace::late_after() const {
  if (answer_count_ < kFirstAnswers) return kLateWhileUnknown;
  auto sorted = answers_;
  const auto count = static_cast<std::ptrdiff_t>(std::min(answer_count_, kWindow));
  const auto p99 = sorted.begin() + (count * 99 - 1) / 100;
  std::nth_element(sorted.begin(), p99, sorted.begin() + count);
  return std::max(kLateFloor, *p99 * kLateFactor);
}

void PeerPace::roll(Instant now) {
  if (now - second_begin_ < std::chrono::seconds(1)) return;
  dispatches_before_ = now - second_begin_ < std::chrono::seconds(2) ? dispatches_ : 0;
  dispatches_ = 0;
  hedges_ = 0;
  second_begin_ = now;
}

void PeerPace::note_dispatch(Instant now) {
  roll(now);
  ++dispatches_;
}

bool PeerPace::take_hedge(Instant now) {
  roll(now);
  const double budget = std::max(1.0, kHedgeShare * std::max(dispatches_, dispatches_before_));
  if (hedges_ + 1 > budget) return false;
  ++hedges_;
  return true;
}

}  // namespace consort::actors
