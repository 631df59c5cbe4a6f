// PostOffice: credits given back, wires that come and go, lives that end.
#include "cluster/post_office_state.hpp"

namespace consort::cluster {

namespace {

// Slots are given back at once when a quarter of the window is owed, and at the latest after this time; sooner on any
// frame of the class that goes there anyway. Well below the time in which a window is used up.
constexpr Duration kCreditDelay = std::chrono::milliseconds(250);
constexpr std::uint32_t kOweAtMost = 4;  // a fourth of the window

}  // namespace

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

}  // namespace consort::cluster
