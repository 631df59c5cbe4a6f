// What the PostOffice's sources share: peers with their wires and credits, and the steps of a frame's way.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cluster/post_office.hpp"
#include "cluster/roles.hpp"

namespace consort::cluster {

using runtime::Duration;
using runtime::ErrorKind;
using runtime::EventLoop;
using runtime::failure;
using runtime::Frame;
using runtime::FrameHeader;
using runtime::FrameType;
using runtime::Incarnation;
using runtime::Instant;
using runtime::Link;
using runtime::LinkAddress;
using runtime::LinkToken;
using runtime::MessageClass;
using runtime::NodeId;
using runtime::Outgoing;
using runtime::PeerChange;
using runtime::Status;

inline constexpr std::size_t kPlanes = 2;

inline std::size_t index(MessageClass c) { return static_cast<std::size_t>(c); }
inline std::size_t index(Plane plane) { return static_cast<std::size_t>(plane); }

// Both sides count alike: what the payload takes, at least one, and never more than the window, so that the largest
// message can still be sent when nothing else is under way.
inline std::uint32_t slots_of(MessageClass message_class, std::size_t payload_bytes) {
  const auto slots = static_cast<std::uint32_t>((payload_bytes + kSlotBytes - 1) / kSlotBytes);
  return std::clamp(slots, 1u, kWindowSlots[index(message_class)]);
}

inline bool needs_credit(FrameType type) { return type == FrameType::kTell || type == FrameType::kAsk; }
inline std::string words(NodeId node) { return "node " + std::to_string(node.value); }

struct PostOffice::State {
  struct Wire {
    bool wanted = false;  // connect() was called and nobody has said since that it is gone
    bool broke = false;   // it was lost before: the next connection starts with a reset
    Incarnation incarnation;
    LinkAddress address;
    LinkToken token{};
    std::optional<Instant> heard;
  };

  struct Peer {
    Incarnation incarnation;  // the latest that is known to live; 0: none
    Incarnation over;         // this and all before it are over
    std::array<Wire, kPlanes> wires;
    std::array<std::uint32_t, runtime::kMessageClassCount> credit = kWindowSlots;  // that we may send
    std::array<std::uint32_t, runtime::kMessageClassCount> owed{};  // of theirs, free, not given back yet
    std::array<std::uint32_t, runtime::kMessageClassCount> held{};  // of theirs, by asks not answered yet
    std::optional<Instant> told_over;
    std::vector<Frame> waiting;  // over the data plane, for the first wire back: what they ask could not be answered
    std::uint32_t waiting_slots = 0;
  };

  struct HeldSlot {
    Incarnation asker;  // 0: a process that has not joined yet
    MessageClass message_class = MessageClass::kSystem;
    std::uint32_t slots = 0;
  };

  // What one link tells; which plane it is.
  struct Sink final : runtime::LinkSink {
    Sink(State& state, Plane plane) : state_(state), plane_(plane) {}
    void on_frame(NodeId from, Frame frame) override { state_.take(plane_, from, std::move(frame)); }
    void on_peer(NodeId peer, PeerChange change, std::string_view why) override {
      state_.peer_changed(plane_, peer, change, why);
    }
    State& state_;
    const Plane plane_;
  };

  explicit State(EventLoop& owner) : loop(owner) {}

  EventLoop& loop;
  Sink control_sink{*this, Plane::kControl};
  Sink data_sink{*this, Plane::kData};
  std::map<NodeId, Peer> peers;                               // ordered, so that runs repeat
  std::map<std::pair<NodeId, std::uint64_t>, HeldSlot> held;  // by asker's node and correlation
  PostCounters counters;
  PeerHint hint;
  std::function<void(std::string_view)> own_end;
  runtime::TimerId credit_timer = 0;

  Link* link(Plane plane) const { return plane == Plane::kData ? loop.env().data : loop.env().control; }
  Instant now() const { return loop.env().clock.now(); }
  Peer& peer(NodeId node);
  Plane plane_to(NodeId node) const;

  // --- out ---
  Status deliver(Outgoing outgoing);
  Status send(NodeId node, Frame frame);
  Status send_over(Plane plane, NodeId node, Peer& to, Frame frame);
  Status connect(Plane plane, NodeId node, const Wire& wire);
  void answer(NodeId node, const FrameHeader& to, runtime::Error error);

  // --- in ---
  void take(Plane plane, NodeId from, Frame frame);
  bool must_wait(Plane plane, NodeId from, Peer& source, const FrameHeader& header, std::size_t payload_bytes);
  void take_waiting(NodeId from);
  bool take_own(Plane plane, NodeId from, Peer& source, const FrameHeader& header);
  bool source_lives(NodeId from, Peer& source, const FrameHeader& header);
  void say_over(NodeId node, Peer& to, Incarnation incarnation);

  // --- credits ---
  void owe(NodeId node, Peer& to, MessageClass message_class, std::uint32_t slots);
  void give_back(NodeId node, Peer& to, MessageClass message_class);
  void give_back_all();
  void release(NodeId node, std::uint64_t correlation);
  void reset_credit(Peer& to) { to.credit = kWindowSlots; }

  void peer_changed(Plane plane, NodeId node, PeerChange change, std::string_view why);
  bool forget(NodeId node, Incarnation incarnation, std::string why);
  void expect(NodeId node, Incarnation incarnation);
  void drop_held(NodeId node, Incarnation over);
  void drop_all_held(NodeId node);
};

}  // namespace consort::cluster
