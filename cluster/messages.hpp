// The messages by which nodes become a cluster: join, profile, view, heartbeat, loss, probe turns, status, traces.
// Kinds 0x0100 - 0x017F; grammar in messages.capnp and docs/wire.md.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/node_figures.hpp"
#include "cluster/view.hpp"
#include "runtime/env.hpp"
#include "runtime/message.hpp"
#include "runtime/protocol.hpp"
#include "runtime/time.hpp"
#include "runtime/trace.hpp"

namespace consort::cluster {

inline constexpr std::uint32_t kClusterProtocolVersion = 1;  // compared at join; another one is refused in words

// Every message here is of class system unless it says otherwise.
struct SystemMessage {
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kSystem;
};

// --- worker -> Coordinator -----------------------------------------------------------------------------------------
struct Joined : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0101;
  runtime::Incarnation incarnation;
};
// A node asks to be part of the cluster: with incarnation 0 for a new life, else to be known again by a Coordinator
// that restarted. `boot` is drawn once per process, so that a repeated Join gives the same incarnation.
struct Join : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0100;
  using Reply = Joined;
  runtime::NodeId node;
  runtime::Incarnation incarnation;
  std::uint64_t boot = 0;
  std::string manifest;  // of the model's files: nodes with another model are refused
  std::string build;     // of the program
  std::uint32_t protocol = kClusterProtocolVersion;
  runtime::LinkAddress data_address;
  runtime::LinkAddress control_address;
  runtime::LinkToken data_token{};
  NodeProfile profile;    // all zero where not probed yet
  runtime::Epoch loaded;  // placement whose parts are in memory; 0: none
  std::uint32_t part_count = 0;
  std::uint64_t part_bytes = 0;
  std::uint64_t checkpoint_bytes_read = 0;
};

struct ProfileTaken : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0103;
};
struct ReportProfile : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0102;
  using Reply = ProfileTaken;
  runtime::NodeId node;
  NodeProfile profile;
  std::uint64_t checkpoint_bytes_read = 0;
};

struct PartsAccepted : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0105;
};
struct PartsReady : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0104;
  using Reply = PartsAccepted;
  runtime::NodeId node;
  runtime::Epoch epoch;
  std::uint32_t part_count = 0;
  std::uint64_t part_bytes = 0;
  std::uint64_t checkpoint_bytes_read = 0;
};

// Every 100 ms: to peers over the data plane, to the Coordinator over the control plane, from the data loop itself.
struct Heartbeat : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0107;
  std::uint64_t sequence = 0;
  std::uint64_t view_version = 0;  // what the sender holds; the Coordinator sends the view again where it is behind
};

// --- Coordinator -> workers and agents ---------------------------------------------------------------------------
// The whole view; travels as payload.
struct ViewUpdate : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0106;
  ClusterViewPtr view;
};

// A Coordinator that restarted hears a node that it knows from its log only: the node joins again with its incarnation.
struct RegisterAgain : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x010A;
};

// --- worker <-> worker ---------------------------------------------------------------------------------------------
struct LinkEchoed : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0109;
};
// Class bulk where it carries a payload to measure the rate; see SendOptions.
struct LinkEcho : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0108;
  using Reply = LinkEchoed;
  runtime::Buffer payload;
};

// --- agents ------------------------------------------------------------------------------------------------------
struct AgentWelcome : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0111;
};
// Once a second: an agent is here, and these are its workers. The Coordinator learns from it what it missed.
struct AgentHello : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0110;
  using Reply = AgentWelcome;
  struct Child {
    runtime::NodeId node;
    runtime::Incarnation ended;  // the last incarnation that this agent saw end; 0: none
    bool running = false;
    bool given_up = false;  // it will not be started again
    std::string trouble;    // how its last life ended
  };
  std::string host;
  runtime::LinkAddress control_address;
  std::uint64_t view_version = 0;
  std::vector<Child> children;
};

// To its agent, and again every second: a tell may be lost.
struct WorkerJoined : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0112;
  runtime::NodeId node;
  runtime::Incarnation incarnation;
  runtime::LinkAddress control_address;  // where the agent answers to
};

struct ProbeTurn : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0114;
};
// Answered when no other worker of the host probes. The turn ends with ReleaseProbeTurn, with the worker, or after 30
// s.
struct TakeProbeTurn : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0113;
  using Reply = ProbeTurn;
  runtime::NodeId node;
};
struct ReleaseProbeTurn : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0115;
  runtime::NodeId node;
};

// An agent saw a worker's process end: told to every worker directly, and to the Coordinator.
struct ChildExited : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0116;
  runtime::NodeId node;
  runtime::Incarnation incarnation;  // 0: it had not joined yet
  std::string description;           // "signal 9"
  bool given_up = false;             // it will not be started again
};

struct NodeReplaced : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0118;
};
// The Coordinator declared this incarnation dead: its agent kills the process, stopped or not, and starts a new one.
struct NodeLost : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0117;
  using Reply = NodeReplaced;
  runtime::NodeId node;
  runtime::Incarnation incarnation;
  bool restart = true;
  std::string why;
};

// --- operator ----------------------------------------------------------------------------------------------------
struct ShuttingDown : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x011A;
};
// To an agent: ends its workers, its Coordinator and itself.
struct Shutdown : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0119;
  using Reply = ShuttingDown;
};

struct LeftCluster : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x011C;
};
// To the Coordinator: the node goes for good; its parts move to the others where they fit.
struct LeaveCluster : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x011B;
  using Reply = LeftCluster;
  runtime::NodeId node;
};

struct ClusterStatusReport : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0121;
  ClusterViewPtr view;          // without tokens
  std::string trouble;          // why there is no placement, in words; empty: nothing wrong
  bool needs_operator = false;  // the trouble does not pass by itself: a node is given up or refused, or no plan fits
  std::string prediction;       // what the planner expects of the placement; Coordinator only
  runtime::NodeId answered_by;
  std::vector<runtime::NodeId> suspected;  // as the answering worker sees it
  bool coordinator_reachable = true;
  std::vector<std::pair<std::string, std::uint64_t>> counters;  // of the answering node's post office
};
// To the Coordinator or to any worker's Membership.
struct ClusterStatus : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0120;
  using Reply = ClusterStatusReport;
};

struct NodeTraceEvents : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0123;
  struct Event {
    std::uint32_t name = 0;     // index into strings
    std::uint32_t track = 0;    // index into strings
    std::int64_t begin_ns = 0;  // on the node's clock
    std::int64_t length_ns = 0;
    std::int64_t a = 0;
    std::int64_t b = 0;
  };
  runtime::NodeId node;
  std::string name;
  std::int64_t now_ns = 0;  // the node's clock at the answer, to align nodes with
  std::vector<std::string> strings;
  std::vector<Event> events;
};
struct CollectTrace : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0122;
  using Reply = NodeTraceEvents;
};
struct TraceEnabled : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0125;
};
struct EnableTrace : SystemMessage {
  static constexpr runtime::MessageKind kKind = 0x0124;
  using Reply = TraceEnabled;
  bool on = true;
};

// Asked by whoever looks, about once a second, and by nobody else. Bulk: looking delays no token and no heartbeat.
struct NodeFiguresRead {
  static constexpr runtime::MessageKind kKind = 0x0127;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kBulk;
  NodeFigures figures;
};
struct ReadFigures {
  static constexpr runtime::MessageKind kKind = 0x0126;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kBulk;
  using Reply = NodeFiguresRead;
};

NodeTraceEvents pack_trace(runtime::NodeId node, std::string name, runtime::Instant now,
                           const std::vector<runtime::TraceEvent>& events);
// For chrome_trace_json. The names point into `events`, which must outlive the result.
runtime::NodeTrace unpack_trace(const NodeTraceEvents& events, runtime::Duration offset);

// --- who takes what ----------------------------------------------------------------------------------------------
using CoordinatorProtocol =
    runtime::Protocol<runtime::Ask<Join>, runtime::Ask<ReportProfile>, runtime::Ask<PartsReady>,
                      runtime::Tell<Heartbeat>, runtime::Ask<AgentHello>, runtime::Tell<ChildExited>,
                      runtime::Ask<LeaveCluster>, runtime::Ask<ClusterStatus>>;
using MembershipProtocol =
    runtime::Protocol<runtime::Tell<ViewUpdate>, runtime::Tell<RegisterAgain>, runtime::Tell<Heartbeat>,
                      runtime::Ask<LinkEcho>, runtime::Tell<ChildExited>, runtime::Ask<ClusterStatus>,
                      runtime::Ask<CollectTrace>, runtime::Ask<EnableTrace>, runtime::Ask<ReadFigures>>;
using NodeAgentProtocol =
    runtime::Protocol<runtime::Tell<WorkerJoined>, runtime::Ask<TakeProbeTurn>, runtime::Tell<ReleaseProbeTurn>,
                      runtime::Ask<NodeLost>, runtime::Tell<ViewUpdate>, runtime::Ask<Shutdown>>;

}  // namespace consort::cluster

namespace consort::runtime {

#define CONSORT_CLUSTER_CODEC(Type)                                                            \
  template <>                                                                                  \
  struct Codec<cluster::Type> {                                                                \
    static Outcome<WireMessage> encode(const cluster::Type& message);                          \
    static Outcome<cluster::Type> decode(std::span<const std::byte> metadata, Buffer payload); \
  }
CONSORT_CLUSTER_CODEC(Join);
CONSORT_CLUSTER_CODEC(Joined);
CONSORT_CLUSTER_CODEC(ReportProfile);
CONSORT_CLUSTER_CODEC(ProfileTaken);
CONSORT_CLUSTER_CODEC(PartsReady);
CONSORT_CLUSTER_CODEC(PartsAccepted);
CONSORT_CLUSTER_CODEC(ViewUpdate);
CONSORT_CLUSTER_CODEC(Heartbeat);
CONSORT_CLUSTER_CODEC(RegisterAgain);
CONSORT_CLUSTER_CODEC(LinkEcho);
CONSORT_CLUSTER_CODEC(LinkEchoed);
CONSORT_CLUSTER_CODEC(AgentHello);
CONSORT_CLUSTER_CODEC(AgentWelcome);
CONSORT_CLUSTER_CODEC(WorkerJoined);
CONSORT_CLUSTER_CODEC(TakeProbeTurn);
CONSORT_CLUSTER_CODEC(ProbeTurn);
CONSORT_CLUSTER_CODEC(ReleaseProbeTurn);
CONSORT_CLUSTER_CODEC(ChildExited);
CONSORT_CLUSTER_CODEC(NodeLost);
CONSORT_CLUSTER_CODEC(NodeReplaced);
CONSORT_CLUSTER_CODEC(Shutdown);
CONSORT_CLUSTER_CODEC(ShuttingDown);
CONSORT_CLUSTER_CODEC(LeaveCluster);
CONSORT_CLUSTER_CODEC(LeftCluster);
CONSORT_CLUSTER_CODEC(ClusterStatus);
CONSORT_CLUSTER_CODEC(ClusterStatusReport);
CONSORT_CLUSTER_CODEC(CollectTrace);
CONSORT_CLUSTER_CODEC(NodeTraceEvents);
CONSORT_CLUSTER_CODEC(EnableTrace);
CONSORT_CLUSTER_CODEC(TraceEnabled);
CONSORT_CLUSTER_CODEC(ReadFigures);
CONSORT_CLUSTER_CODEC(NodeFiguresRead);
#undef CONSORT_CLUSTER_CODEC

}  // namespace consort::runtime
