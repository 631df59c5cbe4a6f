// PostOffice: what becomes of a frame that comes in.
#include "cluster/post_office_state.hpp"

namespace consort::cluster {

namespace {

// Of one peer's frames that may wait until the first wire back to it is up. A join takes a round trip, in which a peer
// sends its asks of one or two steps; a peer that sends more than a quarter of a window does not wait for answers.
constexpr std::uint32_t kMaxWaitingSlots = 256;  // 16 MiB
constexpr Duration kSayOverAgain = std::chrono::milliseconds(100);

}  // namespace

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

}  // namespace consort::cluster
