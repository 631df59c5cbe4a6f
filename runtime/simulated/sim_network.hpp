// SimNetwork: the wires between simulated processes. Nothing is lost inside a connection; connections stall, part and
// break. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "runtime/env.hpp"
#include "runtime/fifo.hpp"
#include "runtime/simulated/agenda.hpp"
#include "runtime/simulated/models.hpp"
#include "runtime/simulated/sim_event.hpp"
#include "runtime/simulated/sim_link.hpp"

namespace consort::runtime {

class World;

// How the two ends of a broken connection learn of it: after a time, or never.
struct BreakNotice {
  std::optional<Duration> first = std::chrono::milliseconds(1);  // the end that break_between names first
  std::optional<Duration> second = std::chrono::milliseconds(1);
};

class SimNetwork {
 public:
  SimNetwork(World& world, const SimLinkModel& control, const SimLinkModel& data, Duration reconnect, Rng rng);
  ~SimNetwork();

  // --- faults: from one node to another, on one wire or on both ------------------------------------------------
  using Which = std::optional<Wire>;
  void delay(NodeId from, NodeId to, Duration extra, Which wire = {});  // later frames; 0 ends it
  void slow(NodeId from, NodeId to, double factor, Which wire = {});    // bytes take this much longer; 1 ends it
  void stall(NodeId from, NodeId to, Duration time, Which wire = {});   // nothing arrives until then; then all does
  void part(NodeId from, NodeId to, Which wire = {});                   // one way, until heal; call twice for both
  void heal(NodeId from, NodeId to, Which wire = {});
  void heal_all();  // parts, stalls, delays and slowness end
  // One bit in each of the next so many; the first that arrives ends its connection.
  void corrupt(NodeId from, NodeId to, std::uint32_t frames, Which wire = {});
  // Both directions end: of what is under way a random first part still arrives, and what is sent before an end notices
  // is accepted and lost.
  void break_between(NodeId first, NodeId second, const BreakNotice& notice = {}, Which wire = {});

  // From now on, for all nodes: how fast, how late losses are noticed. like_zmq stays what it was.
  void set_model(Wire wire, SimLinkModel model);
  SimLinkModel model_of(Wire wire) const { return model(wire); }

  // --- what checkers read ---------------------------------------------------------------------------------------
  std::size_t under_way() const { return under_way_; }  // parcels, hellos included
  std::uint64_t corrupted() const { return corrupted_; }
  std::uint64_t lost() const { return lost_; }  // parcels that a break or an ended process took

  // The usual address of a node on the control wire, whatever life it is in.
  static LinkAddress usual_address(NodeId node);
  // The address of one process alone, as a UCX worker has it.
  static LinkAddress exact_address(std::uint32_t process);

 private:
  friend class SimLink;
  friend class World;

  struct Parcel {
    Instant arrival;
    std::vector<std::byte> head;  // empty: the hello
    std::vector<std::byte> payload;
  };
  struct Lane {
    Fifo<Parcel> parcels;
    std::size_t bytes = 0;
    Instant last_arrival{};
    Instant wire_free{};
    bool planned = false;  // its first parcel is on the agenda, held by a paused process, or parked at a parted path
  };
  // Everything from a node to another on one wire, over all lives of both.
  struct Path {
    Duration extra{0};
    double slowness = 1;
    Instant blocked_until{};  // Instant::max(): parted
    std::uint32_t corrupt_next = 0;
    std::vector<AgendaEntry> parked;  // what waits for its end
  };
  struct Connection {
    Wire wire = Wire::kData;
    std::uint32_t from_process = 0;
    std::uint32_t to_process = kNobody;  // kNobody: nobody has that address (now, on the control wire)
    NodeId from;
    NodeId to;
    Incarnation from_incarnation;
    Incarnation to_incarnation;
    LinkToken token{};
    Path* path = nullptr;
    Path* path_back = nullptr;
    bool owned = true;       // its link still has it in its table
    bool up = false;         // its link knows that it was accepted
    bool accepted = false;   // the other side took its hello
    bool closed = false;     // the other side hears it no more, and this one will be told
    bool broken = false;     // what is sent from now on is lost
    bool is_answer = false;  // the way back to a client (control wire)
    std::array<Lane, kMessageClassCount> lanes;
  };
  enum class Signal : std::uint8_t {
    kAccepted = 0,
    kWrongToken = 1,
    kWrongNode = 2,
    kClosed = 3,
    kLost = 4,
    kDamaged = 5
  };
  static std::string_view words(Signal signal);
  static constexpr std::uint32_t kNobody = ~std::uint32_t{0};
  static constexpr std::size_t kMaxConnections = 1u
                                                 << 22;  // in one world: a scenario that reconnects for ever is wrong

  // What a link asks for.
  Status connect(SimLink& link, NodeId peer, Incarnation incarnation, const LinkAddress& address,
                 const LinkToken& token);
  void close(SimLink& link, NodeId peer);
  Status send(SimLink& link, NodeId peer, Frame frame);

  // What the world hands on; the event that it was, or nothing.
  std::optional<SimEvent> parcel_arrives(std::uint64_t lane);
  std::optional<SimEvent> signal_arrives(std::uint64_t item);
  void reconnect(std::uint64_t connection);
  void process_ended(std::uint32_t process);

  const SimLinkModel& model(Wire wire) const { return models_[static_cast<std::size_t>(wire)]; }
  SimLink* link_of(std::uint32_t process, Wire wire);
  Path& path(NodeId from, NodeId to, Wire wire) { return paths_[{from, to, wire}]; }
  template <class Change>
  void change(NodeId from, NodeId to, Which wire, Change apply);
  void open_again(Path& path);
  void unpark(Path& path);
  bool held_back(const Path& path) const;
  void park(Path& path, Happening what, std::uint32_t process, std::uint64_t item);

  std::uint32_t add_connection(SimLink& link, NodeId peer, Incarnation incarnation, std::uint32_t to_process);
  void greet(std::uint32_t number);
  void take_hello(std::uint32_t number);
  void take_frame(std::uint32_t number, Parcel parcel, SimEvent& event);
  void end_damaged(SimLink& link, std::uint32_t number);
  void answer_connection(SimLink& link, const Connection& asked);
  void put(std::uint32_t number, std::size_t lane, Parcel parcel);
  void plan(std::uint32_t number, std::size_t lane);
  void signal(std::uint32_t number, Signal what, Duration after);
  void drop(SimLink& link, NodeId peer, std::uint32_t number);
  void lose_suffixes(Connection& connection);
  void break_connection(std::uint32_t number, std::optional<Duration> notice);
  std::optional<Duration> draw_loss_notice(Wire wire);
  Duration flight_time(Wire wire, const Path& path);

  World& world_;
  std::array<SimLinkModel, 2> models_;
  const Duration reconnect_;
  Rng rng_;
  struct PathKey {
    NodeId from;
    NodeId to;
    Wire wire;
    auto operator<=>(const PathKey&) const = default;
  };
  std::map<PathKey, Path> paths_;                         // addresses stay
  std::vector<std::unique_ptr<Connection>> connections_;  // by number; a number is never used again
  std::size_t under_way_ = 0;
  std::uint64_t corrupted_ = 0;
  std::uint64_t lost_ = 0;
};

}  // namespace consort::runtime
