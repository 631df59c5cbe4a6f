#include "cluster/post_office.hpp"

#include "cluster/post_office_state.hpp"
#include "runtime/error_reply.hpp"

namespace consort::cluster {

namespace {

constexpr std::size_t kMaxPeers = 8192;  // workers, agents, and clients that have not said goodbye
constexpr std::uint64_t kMaxRemainingUs = UINT32_MAX;

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

// --- peers -----------------------------------------------------------------------------------------------------------

PostOffice::State::Peer& PostOffice::State::peer(NodeId node) {
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
  State::Wire wire;
  wire.incarnation = incarnation;
  wire.address = address;
  wire.token = token;
  return state_->connect(plane, peer, wire);
}

void PostOffice::disconnect(Plane plane, NodeId peer) {
  if (const auto at = state_->peers.find(peer); at != state_->peers.end()) {
    State::Wire& wire = at->second.wires[index(plane)];
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
