#include "cluster/prober.hpp"

#include <algorithm>
#include <utility>

namespace consort::cluster {

using runtime::Duration;
using runtime::Instant;
using runtime::Outcome;

namespace {

// A turn may be long in coming, all workers of the host before this one; but the agent may not know yet how to answer a
// worker that has just joined, so the question is asked again, which keeps the place in the queue.
constexpr Duration kTurnDeadline = std::chrono::milliseconds(500);
constexpr Duration kPartsDeadline = std::chrono::minutes(2);  // it may have to read parts from a slow disk first
constexpr Duration kEchoDeadline = std::chrono::seconds(1);   // 1 MiB at 10 Mbit
constexpr int kEchoTries = 5;                                 // the first may find that the peer cannot answer yet
constexpr Duration kAgain = std::chrono::milliseconds(500);
constexpr int kSmallEchoes = 9;  // their median is the delay
constexpr int kLargeEchoes = 3;
constexpr std::size_t kLargeEchoBytes = 1 << 20;  // 8 ms at 1 Gbit, 0.1 ms over shared memory

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

Prober::Prober(Options options, std::function<void(NodeProfile)> done)
    : options_(std::move(options)), done_(std::move(done)) {}

void Prober::go(Step step) {
  switch (step) {
    case Step::kTurn:
      return take_turn();
    case Step::kParts:
      return probe_parts();
    case Step::kDelay:
      return probe_delay();
    case Step::kRate:
      return probe_rate();
    case Step::kDone:
      return finish();
  }
}

void Prober::take_turn() {
  if (!options_.agent) return go(Step::kParts);
  ask(*options_.agent, TakeProbeTurn{{}, options_.node}, kTurnDeadline).then([this](Outcome<ProbeTurn> turn) {
    if (turn.ok()) return go(Step::kParts);
    if (turn.error().kind == runtime::ErrorKind::kTimedOut) return go(Step::kTurn);
    after(kAgain, [this] { go(Step::kTurn); });
  });
}

void Prober::probe_parts() {
  ask(options_.parts, ProbeParts{}, kPartsDeadline).then([this](Outcome<PartsProbed> probed) {
    if (!probed.ok() || probed->expert_bytes_per_second <= 0) {
      if (options_.agent) tell(*options_.agent, ReleaseProbeTurn{{}, options_.node});
      after(kAgain, [this] { go(Step::kTurn); });
      return;
    }
    profile_.expert_bytes_per_second = probed->expert_bytes_per_second;
    go(Step::kDelay);
  });
}

// Half the median round trip of small echoes, peer after peer. A peer that does not answer is left out.
void Prober::probe_delay() {
  if (peer_index_ == options_.peers.size()) return go(Step::kDone);
  const Instant sent = env().clock.now();
  ask(options_.peers[peer_index_], LinkEcho{}, kEchoDeadline).then([this, sent](Outcome<LinkEchoed> echoed) {
    if (!echoed.ok()) return try_again(Step::kDelay);
    round_trips_.push_back(seconds(env().clock.now() - sent));
    if (++echo_count_ < kSmallEchoes) return go(Step::kDelay);
    echo_count_ = 0;
    delays_.push_back(median(round_trips_) / 2);
    go(Step::kRate);
  });
}

// What a large echo takes longer than a small one is its bytes; the fastest of a few was disturbed least.
void Prober::probe_rate() {
  const Instant sent = env().clock.now();
  LinkEcho echo;
  echo.payload = runtime::Buffer::allocate(kLargeEchoBytes);
  std::ranges::fill(echo.payload.mutable_bytes(), std::byte{0});  // what lay there before must not travel
  ask(options_.peers[peer_index_], std::move(echo), kEchoDeadline, {runtime::MessageClass::kBulk, {}})
      .then([this, sent](Outcome<LinkEchoed> echoed) {
        if (!echoed.ok()) return try_again(Step::kRate);
        const double extra = seconds(env().clock.now() - sent) - 2 * delays_.back();
        const double rate = static_cast<double>(kLargeEchoBytes) / std::max(extra, 1e-6);
        if (echo_count_ == 0) {
          rates_.push_back(rate);
        } else {
          rates_.back() = std::max(rates_.back(), rate);
        }
        if (++echo_count_ < kLargeEchoes) return go(Step::kRate);
        next_peer();
      });
}

void Prober::try_again(Step step) {
  if (++failed_echoes_ == kEchoTries) return next_peer();
  go(step);
}

void Prober::next_peer() {
  ++peer_index_;
  failed_echoes_ = 0;
  echo_count_ = 0;
  round_trips_.clear();
  go(Step::kDelay);
}

void Prober::finish() {
  // A journey is both ends' links; the nearest peer's adds least to this node's own.
  profile_.link_delay_seconds = delays_.empty() ? 0 : std::ranges::min(delays_);
  profile_.link_bytes_per_second = median(rates_);
  if (options_.agent) tell(*options_.agent, ReleaseProbeTurn{{}, options_.node});
  done_(profile_);
  stop();
}

}  // namespace consort::cluster
