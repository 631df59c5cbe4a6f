// ShapedLink: wraps a link and makes it slower: delay, rate, stalls and cuts, so that one machine can play several.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "runtime/env.hpp"
#include "runtime/time.hpp"

namespace consort::transport {

struct LinkShape {
  runtime::Duration delay{0};          // each way
  std::uint64_t bytes_per_second = 0;  // each way, all peers together, as a network card has it; 0: no limit
};

struct ShapedLimits {
  std::size_t queue_frames = 4096;                  // held here, per peer and class, each way
  std::size_t queue_bytes = std::size_t{64} << 20;  // the same in bytes; one frame always fits an empty queue
};

// Keeps the order of each class; a more urgent class overtakes a large frame between its chunks. Outgoing frames beyond
// the limits are kExhausted. Incoming ones cannot be refused: a peer that overruns four times the limits is cut.
// Belongs to one loop, whose timers and clock it uses. The inner link is turned by that loop itself and outlives this.
class ShapedLink final : public runtime::Link {
 public:
  ShapedLink(runtime::Link& inner, runtime::Timers& timers, const runtime::Clock& clock, LinkShape shape,
             ShapedLimits limits = {});
  ~ShapedLink() override;

  // While a peer is stalled its frames wait, both ways, as on a route that comes back.
  void stall(runtime::NodeId peer, bool stalled);
  // The connection breaks: what is under way is lost, the sink is told kLost.
  void cut(runtime::NodeId peer);
  std::size_t held_frames() const;

  void attach(runtime::LinkSink& sink) override;
  runtime::LinkAddress address() const override;
  runtime::LinkToken token() const override;
  runtime::Status connect(runtime::NodeId peer, runtime::Incarnation incarnation, const runtime::LinkAddress& address,
                          const runtime::LinkToken& token) override;
  void disconnect(runtime::NodeId peer) override;
  bool connected(runtime::NodeId peer) const override;
  runtime::Status send(runtime::NodeId peer, runtime::Frame frame) override;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with its timers
};

}  // namespace consort::transport
