// What travels on a connection: hellos, frames as bytes, and what links are told about them.
#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/simulated/sim_network.hpp"
#include "runtime/simulated/world.hpp"

namespace consort::runtime {
namespace {

constexpr std::uint64_t kSignalBits = 3;
constexpr std::size_t kHelloBytes = 48;  // on the wire, for its time of flight

// The CRC that encode_head wrote: it stands for header and metadata in the trace hash.
std::uint32_t checksum_of(const std::vector<std::byte>& head, const std::vector<std::byte>& payload) {
  std::uint32_t checksum = 0;
  std::memcpy(&checksum, head.data() + 12, sizeof checksum);
  if (payload.size() < sizeof checksum) return checksum;
  std::uint32_t trailer;
  std::memcpy(&trailer, payload.data() + payload.size() - sizeof trailer, sizeof trailer);
  return checksum * 31 + trailer;
}

}  // namespace

Duration SimNetwork::flight_time(Wire wire, const Path& on) {
  const SimLinkModel& of = model(wire);
  const auto jitter = static_cast<std::uint64_t>(of.jitter.count());
  return of.latency + on.extra + Duration(static_cast<std::int64_t>(jitter == 0 ? 0 : rng_.below(jitter)));
}

bool SimNetwork::held_back(const Path& on) const { return on.blocked_until > world_.now(); }

void SimNetwork::park(Path& on, Happening what, std::uint32_t process, std::uint64_t item) {
  on.parked.push_back({world_.now(), 0, item, process, what});
}

// --- out -----------------------------------------------------------------------------------------------------------

Status SimNetwork::send(SimLink& link, NodeId peer, Frame frame) {
  const auto it = link.connections_.find(peer);
  if (it == link.connections_.end() || world_.process(link.process_).ended()) {
    return failure(ErrorKind::kPeerDown, "no connection to node " + std::to_string(peer.value));
  }
  Connection& connection = *connections_[it->second];
  const auto lane_index = static_cast<std::size_t>(frame.header.message_class);
  Lane& lane = connection.lanes[lane_index];
  frame.header.payload_checked = !frame.payload.empty();
  CONSORT_TRY(auto head, encode_head(frame));
  const std::size_t bytes = head.size() + frame.payload.size();
  const SimLinkModel& of = model(link.wire_);
  if (!lane.parcels.empty() && (lane.parcels.size() >= of.queue_frames || lane.bytes + bytes > of.queue_bytes)) {
    return failure(ErrorKind::kExhausted, std::to_string(lane.parcels.size()) + " frames to node " +
                                              std::to_string(peer.value) + " are under way");
  }
  ++link.counters_.frames_sent;
  link.counters_.bytes_sent += bytes;
  if (connection.broken) {  // the wire is gone and nobody has told this end
    ++lost_;
    return done();
  }
  Parcel parcel;
  parcel.head = std::move(head);
  if (frame.header.payload_checked) {
    const auto trailer = payload_trailer(frame.payload);
    parcel.payload.reserve(frame.payload.size() + trailer.size());
    parcel.payload.assign(frame.payload.bytes().begin(), frame.payload.bytes().end());
    parcel.payload.insert(parcel.payload.end(), trailer.begin(), trailer.end());
  }
  if (connection.path->corrupt_next > 0) {
    --connection.path->corrupt_next;
    ++corrupted_;
    const std::uint64_t bit = rng_.below(8 * (parcel.head.size() + parcel.payload.size()));
    const auto at = static_cast<std::size_t>(bit / 8);
    std::byte& hit = at < parcel.head.size() ? parcel.head[at] : parcel.payload[at - parcel.head.size()];
    hit ^= static_cast<std::byte>(1u << (bit % 8));
  }
  put(it->second, lane_index, std::move(parcel));
  return done();
}

void SimNetwork::put(std::uint32_t number, std::size_t lane_index, Parcel parcel) {
  Connection& connection = *connections_[number];
  Lane& lane = connection.lanes[lane_index];
  const std::size_t bytes = parcel.head.size() + parcel.payload.size();
  const double wire_ns = static_cast<double>(std::max(bytes, kHelloBytes)) / model(connection.wire).bytes_per_second *
                         connection.path->slowness * 1e9;
  lane.wire_free = std::max(lane.wire_free, world_.now()) + Duration(static_cast<std::int64_t>(wire_ns));
  parcel.arrival = std::max(lane.wire_free + flight_time(connection.wire, *connection.path), lane.last_arrival);
  lane.last_arrival = parcel.arrival;
  lane.bytes += bytes;
  ++under_way_;
  lane.parcels.push(std::move(parcel));
  if (lane.parcels.size() == 1) plan(number, lane_index);
}

void SimNetwork::plan(std::uint32_t number, std::size_t lane_index) {
  Connection& connection = *connections_[number];
  Lane& lane = connection.lanes[lane_index];
  if (lane.planned || lane.parcels.empty() || connection.to_process == kNobody) return;
  lane.planned = true;
  world_.agenda_.add(std::max(world_.now(), lane.parcels.front().arrival), Happening::kParcel, connection.to_process,
                     std::uint64_t{number} * kMessageClassCount + lane_index);
}

void SimNetwork::signal(std::uint32_t number, Signal what, Duration after) {
  world_.agenda_.add(world_.now() + after, Happening::kSignal, connections_[number]->from_process,
                     (std::uint64_t{number} << kSignalBits) | static_cast<std::uint64_t>(what));
}

// --- in ------------------------------------------------------------------------------------------------------------

std::optional<SimEvent> SimNetwork::parcel_arrives(std::uint64_t item) {
  const auto number = static_cast<std::uint32_t>(item / kMessageClassCount);
  const auto lane_index = static_cast<std::size_t>(item % kMessageClassCount);
  Connection& connection = *connections_[number];
  if (held_back(*connection.path)) {
    park(*connection.path, Happening::kParcel, connection.to_process, item);
    return std::nullopt;
  }
  Lane& lane = connection.lanes[lane_index];
  lane.planned = false;
  if (lane.parcels.empty() || lane.parcels.front().arrival > world_.now()) {  // a break took what was planned
    plan(number, lane_index);
    return std::nullopt;
  }
  Parcel parcel = lane.parcels.pop();
  lane.bytes -= parcel.head.size() + parcel.payload.size();
  --under_way_;
  plan(number, lane_index);

  SimEvent event = World::event_of(SimEventKind::kFrame, world_.process(connection.to_process));
  event.peer = connection.from;
  if (parcel.head.empty()) {
    take_hello(number);
  } else {
    take_frame(number, std::move(parcel), event);
  }
  return event;
}

void SimNetwork::take_hello(std::uint32_t number) {
  Connection& connection = *connections_[number];
  SimLink& link = *link_of(connection.to_process, connection.wire);
  const bool like_zmq = model(connection.wire).like_zmq;
  Signal verdict = Signal::kAccepted;
  if (link.node_ != connection.to) {
    verdict = Signal::kWrongNode;
  } else if (connection.token != link.token_ && !(like_zmq && connection.token == LinkToken{})) {
    verdict = Signal::kWrongToken;
    ++link.counters_.wrong_token;
  }
  connection.accepted = verdict == Signal::kAccepted;
  signal(number, verdict, flight_time(connection.wire, *connection.path_back));
  if (connection.accepted && like_zmq && connection.from.value >= model(connection.wire).first_client_node) {
    answer_connection(link, connection);
  }
}

// The way back to a client. Nobody is told that it came or went: send() fails when it is gone.
void SimNetwork::answer_connection(SimLink& link, const Connection& asked) {
  const NodeId peer = asked.from;
  if (const auto it = link.connections_.find(peer); it != link.connections_.end()) {
    Connection& present = *connections_[it->second];
    if (present.to_process == asked.from_process && !present.broken && !present.closed) return;
    present.owned = false;
    link.connections_.erase(it);
  }
  Connection& back = *connections_[add_connection(link, peer, asked.from_incarnation, asked.from_process)];
  back.is_answer = true;
  back.accepted = true;
  back.up = true;
}

void SimNetwork::take_frame(std::uint32_t number, Parcel parcel, SimEvent& event) {
  const Connection& connection = *connections_[number];
  const NodeId from = connection.from;
  SimLink& link = *link_of(connection.to_process, connection.wire);
  event.checksum = checksum_of(parcel.head, parcel.payload);
  if (!connection.accepted) {
    ++link.counters_.no_hello;
    return;
  }
  auto head = decode_head(parcel.head);
  if (!head.ok()) {
    ++link.counters_.malformed_heads;
    return end_damaged(link, number);
  }
  event.message_kind = head->header.kind;
  event.peer_incarnation = head->header.source_incarnation;
  event.actor = head->header.target_actor;
  const bool other_life =
      !model(connection.wire).like_zmq && head->header.source_incarnation != connection.from_incarnation;
  if (head->header.source_node != from || other_life) {
    ++link.counters_.wrong_source;
    return;
  }
  auto payload = check_payload(*head, Buffer::copy_of(parcel.payload));
  if (!payload.ok()) {
    ++link.counters_.malformed_payloads;
    return end_damaged(link, number);
  }
  ++link.counters_.frames_received;
  if (link.sink_ == nullptr) return;
  link.sink_->on_frame(from, Frame{head->header, std::move(head->metadata), std::move(payload).value()});
}

// As the links of transport/: what came before the damage is delivered, what comes behind it is not, and both sides
// hear that the connection ended, each way.
void SimNetwork::end_damaged(SimLink& link, std::uint32_t number) {
  Connection& theirs = *connections_[number];
  const NodeId peer = theirs.from;
  theirs.accepted = false;
  theirs.closed = true;
  signal(number, Signal::kDamaged, flight_time(theirs.wire, *theirs.path_back));
  const auto ours = link.connections_.find(peer);
  if (ours == link.connections_.end() || connections_[ours->second]->to_process != theirs.from_process) return;
  const bool is_answer = connections_[ours->second]->is_answer;
  drop(link, peer, ours->second);
  if (link.sink_ != nullptr && !is_answer) link.sink_->on_peer(peer, PeerChange::kLost, words(Signal::kDamaged));
}

std::optional<SimEvent> SimNetwork::signal_arrives(std::uint64_t item) {
  const auto what = static_cast<Signal>(item & ((1u << kSignalBits) - 1));
  const auto number = static_cast<std::uint32_t>(item >> kSignalBits);
  Connection& connection = *connections_[number];
  if (what != Signal::kLost && held_back(*connection.path_back)) {
    park(*connection.path_back, Happening::kSignal, connection.from_process, item);
    return std::nullopt;
  }
  if (!connection.owned || (what == Signal::kAccepted && (connection.up || connection.broken))) return std::nullopt;
  SimLink& link = *link_of(connection.from_process, connection.wire);
  SimEvent event = World::event_of(SimEventKind::kPeer, world_.process(connection.from_process));
  event.peer = connection.to;
  event.detail = static_cast<std::uint32_t>(what);
  if (what == Signal::kAccepted) {
    connection.up = true;
    if (link.sink_ != nullptr) link.sink_->on_peer(connection.to, PeerChange::kConnected, "");
  } else {
    connection.up = false;
    connection.owned = false;
    connection.broken = true;
    link.connections_.erase(connection.to);
    if (link.sink_ != nullptr && !connection.is_answer) {
      link.sink_->on_peer(connection.to, PeerChange::kLost, words(what));
    }
  }
  return event;
}

}  // namespace consort::runtime
