#include "cluster/post_office.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "cluster/roles.hpp"
#include "runtime/error_reply.hpp"

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

namespace {

constexpr std::size_t kPlanes = 2;
// Slots are given back at once when a quarter of the window is owed, and at the latest after this time; sooner on any
// frame of the class that goes there anyway. Well below the time in which a window is used up.
constexpr Duration kCreditDelay = std::chrono::milliseconds(250);
constexpr std::uint32_t kOweAtMost = 4;  // a fourth of the window
// Of one peer's frames that may wait until the first wire back to it is up. A join takes a round trip, in which a peer
// sends its asks of one or two steps; a peer that sends more than a quarter of a window does not wait for answers.
constexpr std::uint32_t kMaxWaitingSlots = 256;  // 16 MiB
constexpr std::size_t kMaxPeers = 8192;          // workers, agents, and clients that have not said goodbye
constexpr Duration kSayOverAgain = std::chrono::milliseconds(100);
constexpr std::uint64_t kMaxRemainingUs = UINT32_MAX;

std::size_t index(MessageClass c) { return static_cast<std::size_t>(c); }
std::size_t index(Plane plane) { return static_cast<std::size_t>(plane); }

// Both sides count alike: what the payload takes, at least one, and never more than the window, so that the largest
// message can still be sent when nothing else is under way.
std::uint32_t slots_of(MessageClass message_class, std::size_t payload_bytes) {
  const auto slots = static_cast<std::uint32_t>((payload_bytes + kSlotBytes - 1) / kSlotBytes);
  return std::clamp(slots, 1u, kWindowSlots[index(message_class)]);
}

bool needs_credit(FrameType type) { return type == FrameType::kTell || type == FrameType::kAsk; }
std::string words(NodeId node) { return "node " + std::to_string(node.value); }

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
  std::array<std::uint32_t, runtime::kMessageClassCount> owed{};                 // of theirs, free, not given back yet
  std::array<std::uint32_t, runtime::kMessageClassCount> held{};                 // of theirs, by asks not answered yet
  std::optional<Instant> told_over;
  std::vector<Frame> waiting;  // over the data plane, for the first wire back: what they ask could not be answered
  std::uint32_t waiting_slots = 0;
};

struct HeldSlot {
  Incarnation asker;  // 0: a process that has not joined yet
  MessageClass message_class = MessageClass::kSystem;
  std::uint32_t slots = 0;
};

}  // namespace

std::vector<std::pair<std::string, std::uint64_t>> PostCounters::named() const {
  return {{"sent", sent},
          {"received", received},
          {"waited", waited},
          {"no_credit", no_credit},
          {"no_route", no_route},
          {"expired", expired},
          {"stale_target", stale_target},
          {"stale_source", stale_source},
          {"wrong_source", wrong_source},
          {"malformed", malformed},
          {"credit_frames", credit_frames},
          {"credit_resets", credit_resets},
          {"wires_lost", wires_lost}};
}

struct PostOffice::State {
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

// --- peers -----------------------------------------------------------------------------------------------------------

Peer& PostOffice::State::peer(NodeId node) {
  if (const auto at = peers.find(node); at != peers.end()) return at->second;
  if (peers.size() >= kMaxPeers) {
    // Clients come and go under new names; the one that was silent longest makes room.
    auto oldest = peers.end();
    for (auto at = peers.begin(); at != peers.end(); ++at) {
      if (!is_client(at->first)) continue;
      if (oldest == peers.end() || at->second.wires[0].heard < oldest->second.wires[0].heard) oldest = at;
    }
    CONSORT_CHECK(oldest != peers.end(), "more nodes than a cluster can have", peers.size());
    drop_all_held(oldest->first);
    peers.erase(oldest);
  }
  return peers[node];
}

Plane PostOffice::State::plane_to(NodeId node) const {
  const bool data = is_worker(loop.node()) && is_worker(node) && loop.env().data != nullptr;
  return data ? Plane::kData : Plane::kControl;
}

void PostOffice::State::drop_all_held(NodeId node) {
  held.erase(held.lower_bound({node, 0}), held.upper_bound({node, UINT64_MAX}));
}

// Nobody waits for what lives up to `over` asked. What their process' successor asked before it joined stays.
void PostOffice::State::drop_held(NodeId node, Incarnation over) {
  const auto end = held.upper_bound({node, UINT64_MAX});
  for (auto at = held.lower_bound({node, 0}); at != end;) {
    if (at->second.asker.value == 0 || at->second.asker > over) {
      ++at;
      continue;
    }
    peer(node).held[index(at->second.message_class)] -= at->second.slots;
    at = held.erase(at);
  }
}

// --- out -------------------------------------------------------------------------------------------------------------

Status PostOffice::State::deliver(Outgoing outgoing) {
  const NodeId node = outgoing.target.node;
  Peer& to = peer(node);
  if (outgoing.type == FrameType::kReply || outgoing.type == FrameType::kError) release(node, outgoing.correlation);
  const Incarnation wanted = outgoing.target.incarnation;
  if (wanted.value != 0 && wanted <= to.over) {
    return failure(ErrorKind::kPeerDown, words(node) + " incarnation " + std::to_string(wanted.value) + " is over");
  }
  Frame frame;
  FrameHeader& header = frame.header;
  header.message_class = outgoing.message_class;
  header.type = outgoing.type;
  header.kind = outgoing.kind;
  header.source_node = loop.node();
  header.source_incarnation = loop.incarnation();
  header.source_actor = outgoing.source.actor;
  header.target_incarnation = wanted;
  header.target_actor = outgoing.target.actor;
  header.epoch = outgoing.epoch;
  header.correlation = outgoing.correlation;
  if (outgoing.type == FrameType::kAsk) {
    const auto left = std::chrono::duration_cast<std::chrono::microseconds>(outgoing.deadline - now()).count();
    if (left <= 0) {
      ++counters.expired;
      return failure(ErrorKind::kTimedOut, "the deadline passed before the message left");
    }
    header.remaining_us = static_cast<std::uint32_t>(std::min(static_cast<std::uint64_t>(left), kMaxRemainingUs));
  }
  frame.metadata = std::move(outgoing.message.metadata);
  frame.payload = std::move(outgoing.message.payload);
  if (!needs_credit(outgoing.type)) return send(node, std::move(frame));

  const auto c = index(outgoing.message_class);
  const std::uint32_t slots = slots_of(outgoing.message_class, frame.payload.size());
  if (to.credit[c] < slots) {
    ++counters.no_credit;
    return failure(ErrorKind::kExhausted, words(node) + " has " + std::to_string(kWindowSlots[c] - to.credit[c]) +
                                              " of " + std::to_string(kWindowSlots[c]) +
                                              " slots of this class in use; try again when some are answered");
  }
  to.credit[c] -= slots;
  Status sent = send(node, std::move(frame));
  if (!sent.ok()) to.credit[c] = std::min(to.credit[c] + slots, kWindowSlots[c]);
  return sent;
}

// Slots of the class that the peer is owed travel along.
Status PostOffice::State::send(NodeId node, Frame frame) {
  Peer& to = peer(node);
  const auto c = index(frame.header.message_class);
  const std::uint32_t back = std::min<std::uint32_t>(to.owed[c], UINT16_MAX);
  frame.header.credit_slots = static_cast<std::uint16_t>(back);
  to.owed[c] -= back;
  const Status sent = send_over(plane_to(node), node, to, std::move(frame));
  if (sent.ok()) {
    ++counters.sent;
  } else {
    to.owed[c] += back;
    if (sent.error().kind == ErrorKind::kPeerDown) ++counters.no_route;
  }
  return sent;
}

Status PostOffice::State::send_over(Plane plane, NodeId node, Peer& to, Frame frame) {
  Link* out = link(plane);
  if (out == nullptr) return failure(ErrorKind::kPeerDown, words(node) + " cannot be reached: there is no link");
  if (plane == Plane::kData) return out->send(node, std::move(frame));
  Frame again = frame;  // payloads are shared, not copied
  Status sent = out->send(node, std::move(frame));
  if (sent.ok() || sent.error().kind != ErrorKind::kPeerDown) return sent;
  // The control plane has no heartbeats that would bring a connection back: it is made again when it is needed.
  const Wire known = to.wires[index(plane)];
  if (!connect(plane, node, known).ok()) return sent;
  return out->send(node, std::move(again));
}

Status PostOffice::State::connect(Plane plane, NodeId node, const Wire& wire) {
  Link* out = link(plane);
  if (out == nullptr) return failure(ErrorKind::kPeerDown, words(node) + " cannot be reached: there is no link");
  Wire& kept = peer(node).wires[index(plane)];
  // A process that was started anew listens elsewhere; a link knows its connections by incarnation only.
  if (kept.wanted && kept.address.bytes != wire.address.bytes) {
    kept.wanted = false;
    kept.broke = true;
    out->disconnect(node);
    if (plane == plane_to(node)) {
      loop.asks_lost(node, {ErrorKind::kPeerDown, "the wire to " + words(node) + " led to an earlier process"});
    }
  }
  CONSORT_RETURN_IF_ERROR(out->connect(node, wire.incarnation, wire.address, wire.token));
  kept.incarnation = wire.incarnation;
  kept.address = wire.address;
  kept.token = wire.token;
  kept.wanted = true;
  expect(node, wire.incarnation);
  return runtime::done();
}

// An ask that goes no further is answered in words; nobody waits for the rest.
void PostOffice::State::answer(NodeId node, const FrameHeader& to, runtime::Error error) {
  if (to.type != FrameType::kAsk) return;
  Frame reply;
  reply.header.message_class = to.message_class;
  reply.header.type = FrameType::kError;
  reply.header.source_node = loop.node();
  reply.header.source_incarnation = loop.incarnation();
  reply.header.source_actor = to.target_actor;
  reply.header.target_incarnation = to.source_incarnation;
  reply.header.target_actor = to.source_actor;
  reply.header.correlation = to.correlation;
  reply.metadata = runtime::encode_error(error);
  [[maybe_unused]] const Status sent = send(node, std::move(reply));  // the asker has its deadline
}

// --- in --------------------------------------------------------------------------------------------------------------

void PostOffice::State::take(Plane plane, NodeId from, Frame frame) {
  const FrameHeader& header = frame.header;
  if (header.source_node != from) {
    ++counters.wrong_source;
    return;
  }
  Peer& source = peer(from);
  if (!source_lives(from, source, header)) return;
  source.wires[index(plane)].heard = now();
  if (must_wait(plane, from, source, header, frame.payload.size())) {
    ++counters.waited;
    source.waiting.push_back(std::move(frame));
    return;
  }
  ++counters.received;
  const auto c = index(header.message_class);
  if (header.credit_slots != 0) {
    source.credit[c] = std::min(source.credit[c] + header.credit_slots, kWindowSlots[c]);
  }
  if (take_own(plane, from, source, header)) return;

  // From here on the peer has paid for the frame: every way out gives its slots back, or holds them for an answer.
  const std::uint32_t slots = needs_credit(header.type) ? slots_of(header.message_class, frame.payload.size()) : 0;
  const auto refuse = [&](std::uint64_t& counter, ErrorKind kind, std::string why) {
    ++counter;
    loop.note_dead_letter({kind,
                           header.kind,
                           {from, header.source_incarnation, header.source_actor},
                           {loop.node(), header.target_incarnation, header.target_actor}});
    if (slots != 0) owe(from, source, header.message_class, slots);
    answer(from, header, {kind, std::move(why)});
  };
  const Incarnation wanted = header.target_incarnation;
  if (wanted.value != 0 && wanted != loop.incarnation()) {
    return refuse(counters.stale_target, ErrorKind::kStaleIncarnation,
                  words(loop.node()) + " is incarnation " + std::to_string(loop.incarnation().value) + ", not " +
                      std::to_string(wanted.value));
  }
  if (header.type == FrameType::kAsk) {
    if (header.remaining_us == 0) {
      return refuse(counters.malformed, ErrorKind::kMalformed, "an ask must have a deadline");
    }
    release(from, header.correlation);  // an asker that reuses a correlation has given up the earlier ask
    held[{from, header.correlation}] = {header.source_incarnation, header.message_class, slots};
    source.held[c] += slots;
  } else if (slots != 0) {
    owe(from, source, header.message_class, slots);
  }
  loop.receive_remote(header, {std::move(frame.metadata), std::move(frame.payload)});
}

// Others may hear of this process before it hears of them, and even before it knows its own life. What they ask then
// could not be answered, nor refused in words: it waits until the first wire back is up, or has failed. From then on
// every wire that is made starts with a reset, which ends their asks.
bool PostOffice::State::must_wait(Plane plane, NodeId from, Peer& source, const FrameHeader& header,
                                  std::size_t payload_bytes) {
  if (plane != Plane::kData || plane_to(from) != Plane::kData) return false;
  Wire& back = source.wires[index(plane)];
  if (back.broke || link(plane)->connected(from)) return false;
  const std::uint32_t slots = slots_of(header.message_class, payload_bytes);
  if (source.waiting_slots + slots <= kMaxWaitingSlots) {
    source.waiting_slots += slots;
    return true;
  }
  back.broke = true;  // too much to keep: refused now, and said by the reset
  take_waiting(from);
  return false;
}

// In the order in which they came; what was said by a life that has ended meanwhile is refused as ever.
void PostOffice::State::take_waiting(NodeId from) {
  Peer& source = peer(from);
  source.waiting_slots = 0;
  for (Frame& frame : std::exchange(source.waiting, {})) take(Plane::kData, from, std::move(frame));
}

// Is the frame from a life that is not over? A later life than the known one means that the known one is over.
bool PostOffice::State::source_lives(NodeId from, Peer& source, const FrameHeader& header) {
  const Incarnation life = header.source_incarnation;
  if (!is_worker(from) && from != kCoordinatorNode) return true;  // agents and clients have no lives to count
  if (life.value == 0) return plane_to(from) == Plane::kControl;  // not joined yet: asks for it
  if (life <= source.over) {
    ++counters.stale_source;
    say_over(from, source, life);
    return false;
  }
  expect(from, life);
  return true;
}

// A process that was stopped while the cluster buried it must end when it wakes.
void PostOffice::State::say_over(NodeId node, Peer& to, Incarnation incarnation) {
  if (to.told_over && now() - *to.told_over < kSayOverAgain) return;
  to.told_over = now();
  Frame frame;
  frame.header.kind = kIncarnationOverKind;
  frame.header.source_node = loop.node();
  frame.header.source_incarnation = loop.incarnation();
  frame.header.target_incarnation = incarnation;
  [[maybe_unused]] const Status sent = send(node, std::move(frame));  // said again when it speaks again
}

// Tells between post offices.
bool PostOffice::State::take_own(Plane plane, NodeId from, Peer& source, const FrameHeader& header) {
  if (header.type != FrameType::kTell) return false;
  switch (header.kind) {
    case kCreditKind:
      ++counters.credit_frames;
      return true;
    case kCreditResetKind:
      // Frames of theirs were lost, and with them answers and slots that were ours.
      ++counters.credit_resets;
      reset_credit(source);
      loop.asks_lost(from, {ErrorKind::kPeerDown, "the wire from " + words(from) + " broke"});
      loop.watch_again(from);
      if (hint) hint(from, plane, PeerChange::kLost, "the wire from it broke");
      return true;
    case kIncarnationOverKind:
      if (header.target_incarnation == loop.incarnation() && loop.incarnation().value != 0 && own_end) {
        own_end(words(from) + " says that incarnation " + std::to_string(loop.incarnation().value) +
                " of this node is over");
      }
      return true;
    default:
      return false;
  }
}

// --- credits ---------------------------------------------------------------------------------------------------------

void PostOffice::State::owe(NodeId node, Peer& to, MessageClass message_class, std::uint32_t slots) {
  const auto c = index(message_class);
  to.owed[c] = std::min(to.owed[c] + slots, kWindowSlots[c]);
  if (to.owed[c] >= kWindowSlots[c] / kOweAtMost) {
    give_back(node, to, message_class);
  } else if (credit_timer == 0) {
    credit_timer = loop.at(now() + kCreditDelay, [this] {
      credit_timer = 0;
      give_back_all();
    });
  }
}

void PostOffice::State::give_back(NodeId node, Peer& to, MessageClass message_class) {
  if (to.owed[index(message_class)] == 0) return;
  Frame frame;
  frame.header.kind = kCreditKind;
  frame.header.message_class = message_class;
  frame.header.source_node = loop.node();
  frame.header.source_incarnation = loop.incarnation();
  frame.header.target_incarnation = to.incarnation;
  [[maybe_unused]] const Status sent = send(node, std::move(frame));  // stays owed where it cannot be sent
}

void PostOffice::State::give_back_all() {
  for (auto& [node, to] : peers) {
    for (int c = 0; c < runtime::kMessageClassCount; ++c) give_back(node, to, static_cast<MessageClass>(c));
  }
}

// An ask of theirs is answered: its slots are free, and travel with the answer.
void PostOffice::State::release(NodeId node, std::uint64_t correlation) {
  const auto at = held.find({node, correlation});
  if (at == held.end()) return;
  const HeldSlot slot = at->second;
  held.erase(at);
  Peer& to = peer(node);
  to.held[index(slot.message_class)] -= slot.slots;
  owe(node, to, slot.message_class, slot.slots);
}

// --- lives and wires -------------------------------------------------------------------------------------------------

void PostOffice::State::peer_changed(Plane plane, NodeId node, PeerChange change, std::string_view why) {
  Peer& of = peer(node);
  Wire& wire = of.wires[index(plane)];
  if (change == PeerChange::kConnected) {
    wire.heard = now();
    if (std::exchange(wire.broke, false)) {
      reset_credit(of);
      Frame frame;
      frame.header.kind = kCreditResetKind;
      frame.header.source_node = loop.node();
      frame.header.source_incarnation = loop.incarnation();
      frame.header.target_incarnation = of.incarnation;
      [[maybe_unused]] const Status sent = send(node, std::move(frame));  // a wire that breaks again starts again
      loop.watch_again(node);
    }
    for (int c = 0; c < runtime::kMessageClassCount; ++c) give_back(node, of, static_cast<MessageClass>(c));
    if (plane == Plane::kData) take_waiting(node);
  } else {
    ++counters.wires_lost;
    wire.wanted = false;
    wire.broke = true;
    const runtime::Error lost{ErrorKind::kPeerDown, "the wire to " + words(node) + " broke: " + std::string(why)};
    if (is_client(node)) {
      drop_all_held(node);
      loop.peer_down(node, lost);
      peers.erase(node);
    } else if (is_client(loop.node())) {
      loop.peer_down(node, lost);  // the node forgets a client with its wire: streams and monitors there are over
    } else if (plane == plane_to(node)) {
      loop.asks_lost(node, lost);
      if (plane == Plane::kData) take_waiting(node);
    }
  }
  if (hint) hint(node, plane, change, why);
}

bool PostOffice::State::forget(NodeId node, Incarnation incarnation, std::string why) {
  Peer& of = peer(node);
  if (incarnation.value == 0 || incarnation <= of.over) return false;
  of.over = incarnation;
  const bool later_known = of.incarnation > incarnation;
  if (!later_known) of.incarnation = {};
  if (later_known) return true;  // its end was seen when the later one came
  drop_held(node, incarnation);
  of.credit = kWindowSlots;  // what is owed goes to the next life, which may have paid for it already
  std::erase_if(of.waiting, [&](const Frame& frame) { return frame.header.source_incarnation <= incarnation; });
  Wire& data = of.wires[index(Plane::kData)];
  const bool wire_ends = data.wanted && data.incarnation <= incarnation;
  if (wire_ends) {
    data = {};
    if (Link* out = link(Plane::kData)) out->disconnect(node);
  }
  // The control wire stays: over it a stopped process learns, when it wakes, that it is over.
  loop.peer_down(node, {ErrorKind::kPeerDown, std::move(why)}, incarnation);
  // What was asked of a later life went over this wire too, and no word of its loss will come.
  if (wire_ends) {
    loop.asks_lost(node, {ErrorKind::kPeerDown, "the wire to " + words(node) + " was of a life that is over"});
  }
  return true;
}

void PostOffice::State::expect(NodeId node, Incarnation incarnation) {
  Peer& of = peer(node);
  if (incarnation <= of.over || incarnation <= of.incarnation) return;
  if (of.incarnation.value != 0) forget(node, of.incarnation, words(node) + " has a new incarnation");
  of.incarnation = incarnation;
}

// --- the public face -------------------------------------------------------------------------------------------------

PostOffice::PostOffice(EventLoop& loop) : state_(std::make_unique<State>(loop)) {
  loop.set_remote(this);
  if (Link* control = loop.env().control) control->attach(state_->control_sink);
  if (Link* data = loop.env().data) data->attach(state_->data_sink);
}

PostOffice::~PostOffice() {
  state_->loop.set_remote(nullptr);
  state_->loop.cancel(state_->credit_timer);
}

Status PostOffice::deliver(Outgoing outgoing) { return state_->deliver(std::move(outgoing)); }

Status PostOffice::connect(Plane plane, NodeId peer, Incarnation incarnation, const LinkAddress& address,
                           const LinkToken& token) {
  Wire wire;
  wire.incarnation = incarnation;
  wire.address = address;
  wire.token = token;
  return state_->connect(plane, peer, wire);
}

void PostOffice::disconnect(Plane plane, NodeId peer) {
  if (const auto at = state_->peers.find(peer); at != state_->peers.end()) {
    Wire& wire = at->second.wires[index(plane)];
    wire.broke |= wire.wanted;
    wire.wanted = false;
  }
  if (Link* link = state_->link(plane)) link->disconnect(peer);
  // A link does not tell of an end that it was asked for.
  if (plane == state_->plane_to(peer)) {
    state_->loop.asks_lost(peer, {ErrorKind::kPeerDown, "the wire to " + words(peer) + " was taken down"});
  }
}

bool PostOffice::connected(Plane plane, NodeId peer) const {
  const Link* link = state_->link(plane);
  return link != nullptr && link->connected(peer);
}

void PostOffice::expect(NodeId peer, Incarnation incarnation) { state_->expect(peer, incarnation); }

bool PostOffice::forget(NodeId peer, Incarnation incarnation, std::string why) {
  return state_->forget(peer, incarnation, std::move(why));
}

bool PostOffice::is_dead(NodeId peer, Incarnation incarnation) const {
  const auto at = state_->peers.find(peer);
  return at != state_->peers.end() && incarnation.value != 0 && incarnation <= at->second.over;
}

std::optional<Instant> PostOffice::last_heard(NodeId peer, Plane plane) const {
  const auto at = state_->peers.find(peer);
  return at == state_->peers.end() ? std::nullopt : at->second.wires[index(plane)].heard;
}

void PostOffice::on_peer_hint(PeerHint hint) { state_->hint = std::move(hint); }
void PostOffice::on_own_end(std::function<void(std::string_view)> callback) { state_->own_end = std::move(callback); }
const PostCounters& PostOffice::counters() const { return state_->counters; }

std::uint32_t PostOffice::credit(NodeId peer, MessageClass message_class) const {
  const auto at = state_->peers.find(peer);
  return at == state_->peers.end() ? kWindowSlots[index(message_class)] : at->second.credit[index(message_class)];
}

std::uint32_t PostOffice::held(NodeId peer, MessageClass message_class) const {
  const auto at = state_->peers.find(peer);
  if (at == state_->peers.end()) return 0;
  return at->second.held[index(message_class)] + at->second.owed[index(message_class)];
}

std::vector<NodeId> PostOffice::peers() const {
  std::vector<NodeId> nodes;
  for (const auto& [node, peer] : state_->peers) nodes.push_back(node);
  return nodes;
}

std::uint64_t PostOffice::slots_out(MessageClass message_class) const {
  std::uint64_t slots = 0;
  for (const auto& [node, peer] : state_->peers) {
    slots += kWindowSlots[index(message_class)] - credit(node, message_class);
    slots += held(node, message_class);
  }
  return slots;
}

}  // namespace consort::cluster
