// ShapedWire: one direction of a shaped link: serves classes by urgency at a rate, then lets frames fly for a delay.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>

#include "runtime/frame.hpp"
#include "runtime/time.hpp"
#include "transport/shaped_link.hpp"

namespace consort::transport {

class ShapedWire {
 public:
  struct Parcel {
    runtime::NodeId peer;
    runtime::Frame frame;
    std::size_t bytes = 0;
    std::size_t left = 0;        // not yet through the card
    runtime::Instant arrival{};  // when it has flown
  };

  explicit ShapedWire(LinkShape shape) : shape_(shape) {}

  // False: beyond the limits of its peer and class.
  bool put(runtime::NodeId peer, runtime::Frame frame, const ShapedLimits& limits, runtime::Instant now);
  // The next frame that has arrived, if any. Call until it gives none, then again at next().
  std::optional<Parcel> take(runtime::Instant now);
  void put_back(Parcel parcel, runtime::Instant retry);  // it could not be handed on: it stays first
  std::optional<runtime::Instant> next() const;
  void stall(runtime::NodeId peer, bool stalled);
  void drop(runtime::NodeId peer);
  std::size_t held() const;

 private:
  struct Held {
    std::size_t frames = 0;
    std::size_t bytes = 0;
  };
  void serve(runtime::Instant now);
  void forget(const Parcel& parcel);

  const LinkShape shape_;
  std::array<std::deque<Parcel>, runtime::kMessageClassCount> waiting_;
  std::array<std::deque<Parcel>, runtime::kMessageClassCount> flying_;
  std::array<std::map<runtime::NodeId, std::deque<Parcel>>, runtime::kMessageClassCount> stalled_;
  std::set<runtime::NodeId> stalled_peers_;
  std::array<std::map<runtime::NodeId, Held>, runtime::kMessageClassCount> held_;
  std::optional<std::size_t> serving_;  // the class whose first parcel is in the card
  std::size_t chunk_ = 0;
  runtime::Instant free_at_{};
};

}  // namespace consort::transport
