// SPDX-License-Identifier: Apache-2.0
#include "transport/shaped_wire.hpp"

#include <algorithm>
#include <utility>

namespace consort::transport {

using runtime::Duration;
using runtime::Instant;
using runtime::NodeId;

namespace {

constexpr std::size_t kChunkBytes = std::size_t{64} << 10;  // a large frame lets urgent ones pass between its chunks
constexpr std::size_t kOverheadBytes = 64;                  // headers of lower layers, about

}  // namespace

bool ShapedWire::put(NodeId peer, runtime::Frame frame, const ShapedLimits& limits, Instant now) {
  const auto message_class = static_cast<std::size_t>(frame.header.message_class);
  const std::size_t bytes = runtime::kFrameHeaderBytes + frame.metadata.size() + frame.payload.size();
  Held& held = held_[message_class][peer];
  if (held.frames > 0 && (held.frames >= limits.queue_frames || held.bytes + bytes > limits.queue_bytes)) return false;
  ++held.frames;
  held.bytes += bytes;
  serve(now);
  waiting_[message_class].push_back({peer, std::move(frame), bytes, bytes + kOverheadBytes, {}});
  serve(now);
  return true;
}

// Moves the card's work up to `now`.
void ShapedWire::serve(Instant now) {
  while (true) {
    if (serving_) {
      if (free_at_ > now) return;
      Parcel& parcel = waiting_[*serving_].front();
      parcel.left -= chunk_;
      if (parcel.left == 0) {
        parcel.arrival = free_at_ + shape_.delay;
        flying_[*serving_].push_back(std::move(parcel));
        waiting_[*serving_].pop_front();
      }
      serving_.reset();
    } else {
      free_at_ = std::max(free_at_, now);  // the card was idle
    }
    const auto first = std::find_if(waiting_.begin(), waiting_.end(), [](const auto& queue) { return !queue.empty(); });
    if (first == waiting_.end()) return;
    serving_ = static_cast<std::size_t>(first - waiting_.begin());
    if (shape_.bytes_per_second == 0) {
      chunk_ = first->front().left;
      continue;
    }
    chunk_ = std::min(first->front().left, kChunkBytes);
    const double seconds = static_cast<double>(chunk_) / static_cast<double>(shape_.bytes_per_second);
    free_at_ += std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
  }
}

std::optional<ShapedWire::Parcel> ShapedWire::take(Instant now) {
  serve(now);
  for (std::size_t c = 0; c < flying_.size(); ++c) {
    while (!flying_[c].empty() && flying_[c].front().arrival <= now) {
      Parcel parcel = std::move(flying_[c].front());
      flying_[c].pop_front();
      if (stalled_peers_.contains(parcel.peer)) {
        stalled_[c][parcel.peer].push_back(std::move(parcel));
        continue;
      }
      if (parcel.peer == NodeId()) continue;  // dropped
      forget(parcel);
      return parcel;
    }
  }
  return std::nullopt;
}

void ShapedWire::put_back(Parcel parcel, Instant retry) {
  const auto message_class = static_cast<std::size_t>(parcel.frame.header.message_class);
  Held& held = held_[message_class][parcel.peer];
  ++held.frames;
  held.bytes += parcel.bytes;
  parcel.arrival = retry;
  flying_[message_class].push_front(std::move(parcel));
}

std::optional<Instant> ShapedWire::next() const {
  std::optional<Instant> next;
  const auto sooner = [&](Instant when) { next = next ? std::min(*next, when) : when; };
  if (serving_) sooner(free_at_);
  for (const auto& queue : flying_) {
    if (!queue.empty()) sooner(queue.front().arrival);
  }
  return next;
}

void ShapedWire::stall(NodeId peer, bool stalled) {
  if (stalled) {
    stalled_peers_.insert(peer);
    return;
  }
  if (stalled_peers_.erase(peer) == 0) return;
  for (std::size_t c = 0; c < stalled_.size(); ++c) {
    auto waiting = std::move(stalled_[c][peer]);
    stalled_[c].erase(peer);
    // They have flown already: they come before what is in the air.
    while (!waiting.empty()) {
      flying_[c].push_front(std::move(waiting.back()));
      waiting.pop_back();
    }
  }
}

void ShapedWire::drop(NodeId peer) {
  for (std::size_t c = 0; c < waiting_.size(); ++c) {
    // The parcel in the card goes through, as it would, and then to nobody.
    Parcel* in_card = serving_ == c ? &waiting_[c].front() : nullptr;
    if (in_card != nullptr && in_card->peer == peer) in_card->peer = NodeId();
    std::erase_if(waiting_[c], [&](const Parcel& parcel) { return parcel.peer == peer; });
    std::erase_if(flying_[c], [&](const Parcel& parcel) { return parcel.peer == peer; });
    stalled_[c].erase(peer);
    held_[c].erase(peer);
  }
}

void ShapedWire::forget(const Parcel& parcel) {
  auto& of_class = held_[static_cast<std::size_t>(parcel.frame.header.message_class)];
  const auto it = of_class.find(parcel.peer);
  if (it == of_class.end()) return;
  if (it->second.frames <= 1) {
    of_class.erase(it);
    return;
  }
  --it->second.frames;
  it->second.bytes -= std::min(it->second.bytes, parcel.bytes);
}

std::size_t ShapedWire::held() const {
  std::size_t frames = 0;
  for (const auto& of_class : held_) {
    for (const auto& [peer, held] : of_class) frames += held.frames;
  }
  return frames;
}

}  // namespace consort::transport
