// SPDX-License-Identifier: Apache-2.0
#include "transport/shaped_link.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "runtime/check.hpp"
#include "transport/shaped_wire.hpp"

namespace consort::transport {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Frame;
using runtime::Incarnation;
using runtime::Instant;
using runtime::NodeId;
using runtime::PeerChange;
using runtime::Status;

namespace {

constexpr auto kRetry = std::chrono::milliseconds(1);  // while the inner link is full
constexpr std::size_t kIncomingFactor = 4;             // what a sender may have under way here, in queues of its own

}  // namespace

struct ShapedLink::State final : runtime::LinkSink, std::enable_shared_from_this<ShapedLink::State> {
  State(runtime::Link& l, runtime::Timers& t, const runtime::Clock& c, LinkShape shape, ShapedLimits lim)
      : inner(l),
        timers(t),
        clock(c),
        limits(lim),
        incoming_limits{lim.queue_frames * kIncomingFactor, lim.queue_bytes * kIncomingFactor},
        out(shape),
        in(shape) {}

  void on_frame(NodeId from, Frame frame) override;
  void on_peer(NodeId peer, PeerChange change, std::string_view why) override;
  void pump();
  void schedule();
  void forget(NodeId peer);
  void lose(NodeId peer, std::string_view why);

  runtime::Link& inner;
  runtime::Timers& timers;
  const runtime::Clock& clock;
  const ShapedLimits limits;
  const ShapedLimits incoming_limits;
  runtime::LinkSink* sink = nullptr;
  ShapedWire out;
  ShapedWire in;
  std::map<NodeId, Incarnation> peers;
  runtime::TimerId timer = 0;
  Instant timer_at{};
  bool pumping = false;
};

void ShapedLink::State::on_frame(NodeId from, Frame frame) {
  if (!in.put(from, std::move(frame), incoming_limits, clock.now()))
    return lose(from, "it sends faster than this shaped link delivers");
  schedule();
}

void ShapedLink::State::on_peer(NodeId peer, PeerChange change, std::string_view why) {
  if (change == PeerChange::kLost) forget(peer);
  sink->on_peer(peer, change, why);
}

void ShapedLink::State::forget(NodeId peer) {
  out.drop(peer);
  in.drop(peer);
  peers.erase(peer);
}

void ShapedLink::State::lose(NodeId peer, std::string_view why) {
  forget(peer);
  inner.disconnect(peer);
  sink->on_peer(peer, PeerChange::kLost, why);
}

// What has arrived by now, both ways. Handlers may send: that only queues.
void ShapedLink::State::pump() {
  if (pumping) return;
  pumping = true;
  const Instant now = clock.now();
  while (auto parcel = out.take(now)) {
    Frame copy = parcel->frame;  // the payload is a handle
    const auto status = inner.send(parcel->peer, std::move(copy));
    if (!status.ok() && status.error().kind == ErrorKind::kExhausted) {
      out.put_back(std::move(*parcel), now + kRetry);
      continue;
    }
    // kPeerDown: the inner link tells of it, or has.
  }
  while (auto parcel = in.take(now)) sink->on_frame(parcel->peer, std::move(parcel->frame));
  pumping = false;
  schedule();
}

void ShapedLink::State::schedule() {
  if (pumping) return;
  auto next = out.next();
  if (const auto incoming = in.next(); incoming && (!next || *incoming < *next)) next = incoming;
  if (!next || (timer != 0 && timer_at <= *next)) return;
  if (timer != 0) timers.cancel(timer);
  timer_at = *next;
  timer = timers.at(*next, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) {
      self->timer = 0;
      self->pump();
    }
  });
}

ShapedLink::ShapedLink(runtime::Link& inner, runtime::Timers& timers, const runtime::Clock& clock, LinkShape shape,
                       ShapedLimits limits)
    : state_(std::make_shared<State>(inner, timers, clock, shape, limits)) {
  inner.attach(*state_);
}

ShapedLink::~ShapedLink() {
  if (state_->timer != 0) state_->timers.cancel(state_->timer);
}

void ShapedLink::stall(NodeId peer, bool stalled) {
  state_->out.stall(peer, stalled);
  state_->in.stall(peer, stalled);
  if (!stalled) state_->schedule();
}

void ShapedLink::cut(NodeId peer) { state_->lose(peer, "the connection was cut"); }
std::size_t ShapedLink::held_frames() const { return state_->out.held() + state_->in.held(); }
void ShapedLink::attach(runtime::LinkSink& sink) { state_->sink = &sink; }
runtime::LinkAddress ShapedLink::address() const { return state_->inner.address(); }
runtime::LinkToken ShapedLink::token() const { return state_->inner.token(); }

Status ShapedLink::connect(NodeId peer, Incarnation incarnation, const runtime::LinkAddress& address,
                           const runtime::LinkToken& token) {
  if (const auto it = state_->peers.find(peer); it != state_->peers.end() && it->second != incarnation)
    state_->forget(peer);
  CONSORT_RETURN_IF_ERROR(state_->inner.connect(peer, incarnation, address, token));
  state_->peers[peer] = incarnation;
  return runtime::done();
}

void ShapedLink::disconnect(NodeId peer) {
  state_->forget(peer);
  state_->inner.disconnect(peer);
}

bool ShapedLink::connected(NodeId peer) const { return state_->inner.connected(peer); }

// A client's connection is not ours: the inner link knows it all the same.
Status ShapedLink::send(NodeId peer, Frame frame) {
  if (!state_->peers.contains(peer) && !state_->inner.connected(peer)) {
    return failure(ErrorKind::kPeerDown, "no connection to node " + std::to_string(peer.value));
  }
  if (frame.metadata.size() > runtime::kMaxMetadataBytes || frame.payload.size() > runtime::kMaxPayloadBytes) {
    return runtime::encode_head(frame).error();  // said now, not later
  }
  if (!state_->out.put(peer, std::move(frame), state_->limits, state_->clock.now())) {
    return failure(ErrorKind::kExhausted, "the shaped link to node " + std::to_string(peer.value) + " is full");
  }
  state_->schedule();
  return runtime::done();
}

}  // namespace consort::transport
