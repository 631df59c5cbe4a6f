// Paths and connections: how they are made, closed and broken. sim_parcels.cpp has what travels on them.
#include "runtime/simulated/sim_network.hpp"

#include <cstring>
#include <utility>

#include "runtime/simulated/world.hpp"

namespace consort::runtime {
namespace {

// An address: which kind, and the node or process. Eight bytes, little-endian.
constexpr std::uint32_t kUsualAddress = 0x55;
constexpr std::uint32_t kExactAddress = 0x58;
constexpr std::size_t kAddressBytes = 8;

LinkAddress address_of(std::uint32_t kind, std::uint32_t value) {
  LinkAddress address;
  address.bytes.resize(kAddressBytes);
  std::memcpy(address.bytes.data(), &kind, 4);
  std::memcpy(address.bytes.data() + 4, &value, 4);
  return address;
}

}  // namespace

SimNetwork::SimNetwork(World& world, const SimLinkModel& control, const SimLinkModel& data, Duration reconnect, Rng rng)
    : world_(world), models_{control, data}, reconnect_(reconnect), rng_(rng) {}
SimNetwork::~SimNetwork() = default;

LinkAddress SimNetwork::usual_address(NodeId node) { return address_of(kUsualAddress, node.value); }
LinkAddress SimNetwork::exact_address(std::uint32_t process) { return address_of(kExactAddress, process); }

std::string_view SimNetwork::words(Signal signal) {
  switch (signal) {
    case Signal::kAccepted:
      return "";
    case Signal::kWrongToken:
      return "the token is not that of its present incarnation";
    case Signal::kWrongNode:
      return "the address belongs to another node";
    case Signal::kClosed:
      return "it closed the connection";
    case Signal::kLost:
      return "the connection broke";
    case Signal::kDamaged:
      return "a frame came damaged";
  }
  return "";
}

SimLink* SimNetwork::link_of(std::uint32_t process, Wire wire) {
  SimProcess& owner = world_.process(process);
  if (!owner.alive()) return nullptr;
  return wire == Wire::kControl ? &owner.control() : &owner.data();
}

// --- connections -------------------------------------------------------------------------------------------------

std::uint32_t SimNetwork::add_connection(SimLink& link, NodeId peer, Incarnation incarnation,
                                         std::uint32_t to_process) {
  CONSORT_CHECK(connections_.size() < kMaxConnections, "this scenario reconnects without end");
  auto connection = std::make_unique<Connection>();
  connection->wire = link.wire_;
  connection->from_process = link.process_;
  connection->to_process = to_process;
  connection->from = link.node_;
  connection->to = peer;
  connection->from_incarnation = link.incarnation_;
  connection->to_incarnation = incarnation;
  connection->path = &path(link.node_, peer, link.wire_);
  connection->path_back = &path(peer, link.node_, link.wire_);
  const auto number = static_cast<std::uint32_t>(connections_.size());
  connections_.push_back(std::move(connection));
  link.connections_[peer] = number;
  return number;
}

Status SimNetwork::connect(SimLink& link, NodeId peer, Incarnation incarnation, const LinkAddress& address,
                           const LinkToken& token) {
  if (world_.process(link.process_).ended()) return failure(ErrorKind::kPeerDown, "this process has ended");
  std::uint32_t kind = 0;
  std::uint32_t value = 0;
  const bool like_zmq = model(link.wire_).like_zmq;
  if (address.bytes.size() != kAddressBytes) {
    return failure(ErrorKind::kInvalid,
                   "an address of " + std::to_string(address.bytes.size()) + " bytes is none of a simulated link");
  }
  std::memcpy(&kind, address.bytes.data(), 4);
  std::memcpy(&value, address.bytes.data() + 4, 4);
  if (kind != (like_zmq ? kUsualAddress : kExactAddress) || (!like_zmq && value >= world_.process_count())) {
    return failure(ErrorKind::kInvalid,
                   "the address is none of a simulated " + std::string(name(link.wire_)) + " link");
  }
  std::uint32_t to_process = kNobody;
  if (!like_zmq) {
    to_process = value;
  } else if (const SimProcess* there = world_.find(NodeId(value))) {
    to_process = there->index_;
  }
  if (const auto it = link.connections_.find(peer); it != link.connections_.end()) {
    Connection& present = *connections_[it->second];
    if (present.to_incarnation == incarnation) return done();
    if (like_zmq && present.to_process == to_process) {  // the socket stays, whatever life it is known by
      present.to_incarnation = incarnation;
      return done();
    }
    drop(link, peer, it->second);
  }
  const std::uint32_t number = add_connection(link, peer, incarnation, to_process);
  connections_[number]->token = token;
  greet(number);
  if (to_process == kNobody) {
    world_.agenda_.add(world_.now() + reconnect_, Happening::kReconnect, link.process_, number);
  } else if (world_.process(to_process).ended()) {
    break_connection(number, draw_loss_notice(link.wire_));
  }
  return done();
}

// The hello goes before everything else: on the first lane, and the others' parcels arrive no earlier.
void SimNetwork::greet(std::uint32_t number) {
  Connection& connection = *connections_[number];
  put(number, 0, Parcel{});
  for (auto& lane : connection.lanes) lane.last_arrival = connection.lanes[0].last_arrival;
}

void SimNetwork::reconnect(std::uint64_t number) {
  Connection& connection = *connections_[number];
  if (!connection.owned || connection.to_process != kNobody) return;
  const SimProcess* there = world_.find(connection.to);
  if (there == nullptr) {
    world_.agenda_.add(world_.now() + reconnect_, Happening::kReconnect, connection.from_process, number);
    return;
  }
  connection.to_process = there->index_;
  for (std::size_t lane = 0; lane < connection.lanes.size(); ++lane) plan(static_cast<std::uint32_t>(number), lane);
}

void SimNetwork::close(SimLink& link, NodeId peer) {
  const auto it = link.connections_.find(peer);
  if (it != link.connections_.end()) drop(link, peer, it->second);
}

// Ours ends: what is under way still arrives. Theirs to us ends, too, and they are told.
void SimNetwork::drop(SimLink& link, NodeId peer, std::uint32_t number) {
  Connection& ours = *connections_[number];
  ours.owned = false;
  link.connections_.erase(peer);
  if (ours.to_process == kNobody) return;
  SimLink* theirs = link_of(ours.to_process, ours.wire);
  if (theirs == nullptr) return;
  const auto back = theirs->connections_.find(ours.from);
  if (back == theirs->connections_.end()) return;
  Connection& heard = *connections_[back->second];
  if (heard.to_process != link.process_ || !heard.accepted) return;
  heard.accepted = false;  // what of it is still under way finds nobody
  heard.closed = true;
  signal(back->second, Signal::kClosed, flight_time(ours.wire, *ours.path));
}

void SimNetwork::lose_suffixes(Connection& connection) {
  for (auto& lane : connection.lanes) {
    const std::size_t count = lane.parcels.size();
    const std::size_t kept = count == 0 ? 0 : static_cast<std::size_t>(rng_.below(count + 1));
    for (std::size_t i = 0; i < count; ++i) {
      Parcel parcel = lane.parcels.pop();
      if (i < kept) {
        lane.parcels.push(std::move(parcel));
      } else {
        lane.bytes -= parcel.head.size() + parcel.payload.size();
        --under_way_;
        ++lost_;
      }
    }
  }
}

void SimNetwork::break_connection(std::uint32_t number, std::optional<Duration> notice) {
  Connection& connection = *connections_[number];
  connection.broken = true;
  lose_suffixes(connection);
  if (notice) signal(number, Signal::kLost, *notice);
}

std::optional<Duration> SimNetwork::draw_loss_notice(Wire wire) {
  const SimLinkModel& of = model(wire);
  const auto range = static_cast<std::uint64_t>((of.last_loss_notice - of.first_loss_notice).count()) + 1;
  const Duration notice = of.first_loss_notice + Duration(static_cast<std::int64_t>(rng_.below(range)));
  if (of.silent_loss > 0 && rng_.unit() < of.silent_loss) return std::nullopt;
  return notice;
}

void SimNetwork::process_ended(std::uint32_t process) {
  if (SimProcess& owner = world_.process(process); owner.life_ != nullptr) {
    owner.control().connections_.clear();
    owner.data().connections_.clear();
  }
  for (std::uint32_t number = 0; number < connections_.size(); ++number) {
    Connection& connection = *connections_[number];
    if (connection.from_process == process) {
      connection.owned = false;
      if (!connection.broken) break_connection(number, std::nullopt);
    } else if (connection.to_process == process) {
      for (auto& lane : connection.lanes) {
        under_way_ -= lane.parcels.size();
        lost_ += lane.parcels.size();
        lane = Lane{};
      }
      if (connection.broken) continue;
      connection.broken = true;
      if (!connection.owned) continue;
      if (const auto notice = draw_loss_notice(connection.wire)) signal(number, Signal::kLost, *notice);
    }
  }
}

// --- faults --------------------------------------------------------------------------------------------------------

template <class Change>
void SimNetwork::change(NodeId from, NodeId to, Which wire, Change apply) {
  for (const Wire each : {Wire::kControl, Wire::kData}) {
    if (!wire || *wire == each) apply(path(from, to, each));
  }
}

void SimNetwork::delay(NodeId from, NodeId to, Duration extra, Which wire) {
  change(from, to, wire, [&](Path& on) { on.extra = extra; });
}
void SimNetwork::slow(NodeId from, NodeId to, double factor, Which wire) {
  change(from, to, wire, [&](Path& on) { on.slowness = factor; });
}
void SimNetwork::stall(NodeId from, NodeId to, Duration time, Which wire) {
  change(from, to, wire, [&](Path& on) {
    if (on.blocked_until == Instant::max()) return;  // parted: longer than any stall
    on.blocked_until = std::max(on.blocked_until, world_.now() + time);
    world_.at(on.blocked_until, [this, &on] { unpark(on); });
  });
}
void SimNetwork::part(NodeId from, NodeId to, Which wire) {
  change(from, to, wire, [&](Path& on) { on.blocked_until = Instant::max(); });
}
void SimNetwork::heal(NodeId from, NodeId to, Which wire) {
  change(from, to, wire, [&](Path& on) { open_again(on); });
}
void SimNetwork::set_model(Wire wire, SimLinkModel model) {
  model.like_zmq = models_[static_cast<std::size_t>(wire)].like_zmq;
  models_[static_cast<std::size_t>(wire)] = model;
}
void SimNetwork::heal_all() {
  for (auto& [key, on] : paths_) {
    on.extra = Duration{0};
    on.slowness = 1;
    open_again(on);
  }
}
void SimNetwork::corrupt(NodeId from, NodeId to, std::uint32_t frames, Which wire) {
  change(from, to, wire, [&](Path& on) { on.corrupt_next = frames; });
}
void SimNetwork::break_between(NodeId first, NodeId second, const BreakNotice& notice, Which wire) {
  for (std::uint32_t number = 0; number < connections_.size(); ++number) {
    Connection& connection = *connections_[number];
    if (connection.broken || !connection.owned || (wire && *wire != connection.wire)) continue;
    if (connection.from == first && connection.to == second) break_connection(number, notice.first);
    if (connection.from == second && connection.to == first) break_connection(number, notice.second);
  }
}

void SimNetwork::open_again(Path& on) {
  on.blocked_until = world_.now();
  unpark(on);
}

void SimNetwork::unpark(Path& on) {
  if (held_back(on)) return;  // meanwhile stalled for longer, or parted
  for (const AgendaEntry& entry : std::exchange(on.parked, {})) {
    world_.agenda_.add(world_.now(), entry.what, entry.process, entry.item);
  }
}

}  // namespace consort::runtime
