#include "cluster/messages.hpp"

#include <map>
#include <utility>

#include "cluster/view_codec-inl.hpp"

namespace consort::runtime {

using cluster::ClusterView;
namespace schema = cluster::schema;
namespace wire = cluster::wire;

namespace {

using Bytes = std::span<const std::byte>;
constexpr std::size_t kMaxChildren = 256;
constexpr std::size_t kMaxCounters = 256;
constexpr std::size_t kMaxTraceStrings = 4096;     // names and tracks are literals of the program
constexpr std::size_t kMaxTraceEvents = 1u << 17;  // twice the ring of a node
constexpr unsigned kNumbersPerEvent = 6;

Status no_payload(const Buffer& payload) {
  if (payload.empty()) return done();
  return failure(ErrorKind::kMalformed,
                 "a message that has no payload came with " + std::to_string(payload.size()) + " bytes of it");
}

// A message without fields: an empty struct all the same, so that fields can be added.
template <class Schema>
Outcome<WireMessage> encode_empty() {
  return wire::encode<Schema>([](typename Schema::Builder) {});
}
template <class Schema, class M>
Outcome<M> decode_empty(Bytes metadata, const Buffer& payload) {
  CONSORT_RETURN_IF_ERROR(no_payload(payload));
  return wire::decode<Schema>(metadata, [](typename Schema::Reader) -> Outcome<M> { return M{}; });
}

// A message that names one node.
template <class Schema>
Outcome<WireMessage> encode_node(NodeId node) {
  return wire::encode<Schema>([&](typename Schema::Builder out) { out.setNode(node.value); });
}
template <class Schema, class M>
Outcome<M> decode_node(Bytes metadata, const Buffer& payload) {
  CONSORT_RETURN_IF_ERROR(no_payload(payload));
  return wire::decode<Schema>(metadata, [](typename Schema::Reader in) -> Outcome<M> {
    M message;
    message.node = NodeId{in.getNode()};
    return message;
  });
}

template <class M>
void write_held(schema::Held::Builder out, const M& message) {
  out.setPartCount(message.part_count);
  out.setPartBytes(message.part_bytes);
  out.setCheckpointBytesRead(message.checkpoint_bytes_read);
}
template <class M>
void read_held(schema::Held::Reader in, M& message) {
  message.part_count = in.getPartCount();
  message.part_bytes = in.getPartBytes();
  message.checkpoint_bytes_read = in.getCheckpointBytesRead();
}

}  // namespace

#define CONSORT_EMPTY_CODEC(Type)                                                                                  \
  Outcome<WireMessage> Codec<cluster::Type>::encode(const cluster::Type&) { return encode_empty<schema::Type>(); } \
  Outcome<cluster::Type> Codec<cluster::Type>::decode(Bytes metadata, Buffer payload) {                            \
    return decode_empty<schema::Type, cluster::Type>(metadata, payload);                                           \
  }
CONSORT_EMPTY_CODEC(ProfileTaken)
CONSORT_EMPTY_CODEC(PartsAccepted)
CONSORT_EMPTY_CODEC(RegisterAgain)
CONSORT_EMPTY_CODEC(LinkEchoed)
CONSORT_EMPTY_CODEC(AgentWelcome)
CONSORT_EMPTY_CODEC(ProbeTurn)
CONSORT_EMPTY_CODEC(NodeReplaced)
CONSORT_EMPTY_CODEC(Shutdown)
CONSORT_EMPTY_CODEC(ShuttingDown)
CONSORT_EMPTY_CODEC(LeftCluster)
CONSORT_EMPTY_CODEC(ClusterStatus)
CONSORT_EMPTY_CODEC(CollectTrace)
CONSORT_EMPTY_CODEC(TraceEnabled)
CONSORT_EMPTY_CODEC(ReadFigures)
#undef CONSORT_EMPTY_CODEC

#define CONSORT_NODE_CODEC(Type)                                                        \
  Outcome<WireMessage> Codec<cluster::Type>::encode(const cluster::Type& message) {     \
    return encode_node<schema::Type>(message.node);                                     \
  }                                                                                     \
  Outcome<cluster::Type> Codec<cluster::Type>::decode(Bytes metadata, Buffer payload) { \
    return decode_node<schema::Type, cluster::Type>(metadata, payload);                 \
  }
CONSORT_NODE_CODEC(TakeProbeTurn)
CONSORT_NODE_CODEC(ReleaseProbeTurn)
CONSORT_NODE_CODEC(LeaveCluster)
#undef CONSORT_NODE_CODEC

// --- worker and Coordinator ---

Outcome<WireMessage> Codec<cluster::Join>::encode(const cluster::Join& message) {
  return wire::encode<schema::Join>([&](schema::Join::Builder out) {
    out.setNode(message.node.value);
    out.setIncarnation(message.incarnation.value);
    out.setBoot(message.boot);
    out.setManifest(message.manifest);
    out.setBuild(message.build);
    out.setProtocol(message.protocol);
    out.setDataAddress(wire::data(message.data_address.bytes));
    out.setControlAddress(wire::data(message.control_address.bytes));
    out.setDataToken(wire::data(message.data_token));
    wire::write(out.initProfile(), message.profile);
    out.setLoaded(message.loaded.value);
    write_held(out.initHeld(), message);
  });
}
Outcome<cluster::Join> Codec<cluster::Join>::decode(Bytes metadata, Buffer payload) {
  CONSORT_RETURN_IF_ERROR(no_payload(payload));
  return wire::decode<schema::Join>(metadata, [](schema::Join::Reader in) -> Outcome<cluster::Join> {
    cluster::Join message;
    message.node = NodeId{in.getNode()};
    message.incarnation = Incarnation{in.getIncarnation()};
    message.boot = in.getBoot();
    message.manifest = wire::text(in.getManifest());
    message.build = wire::text(in.getBuild());
    message.protocol = in.getProtocol();
    message.data_address = wire::read_address(in.getDataAddress());
    message.control_address = wire::read_address(in.getControlAddress());
    message.data_token = wire::read_token(in.getDataToken());
    message.profile = wire::read(in.getProfile());
    message.loaded = Epoch{in.getLoaded()};
    read_held(in.getHeld(), message);
    return message;
  });
}

Outcome<WireMessage> Codec<cluster::Joined>::encode(const cluster::Joined& message) {
  return wire::encode<schema::Joined>(
      [&](schema::Joined::Builder out) { out.setIncarnation(message.incarnation.value); });
}
Outcome<cluster::Joined> Codec<cluster::Joined>::decode(Bytes metadata, Buffer payload) {
  CONSORT_RETURN_IF_ERROR(no_payload(payload));
  return wire::decode<schema::Joined>(metadata, [](schema::Joined::Reader in) -> Outcome<cluster::Joined> {
    cluster::Joined message;
    message.incarnation = Incarnation{in.getIncarnation()};
    return message;
  });
}

Outcome<WireMessage> Codec<cluster::ReportProfile>::encode(const cluster::ReportProfile& message) {
  return wire::encode<schema::ReportProfile>([&](schema::ReportProfile::Builder out) {
    out.setNode(message.node.value);
    wire::write(out.initProfile(), message.profile);
    out.setCheckpointBytesRead(message.checkpoint_bytes_read);
  });
}
Outcome<cluster::ReportProfile> Codec<cluster::ReportProfile>::decode(Bytes metadata, Buffer payload) {
  CONSORT_RETURN_IF_ERROR(no_payload(payload));
  return wire::decode<schema::ReportProfile>(metadata,
                                             [](schema::ReportProfile::Reader in) -> Outcome<cluster::ReportProfile> {
                                               cluster::ReportProfile message;
                                               message.node = NodeId{in.getNode()};
                                               message.profile = wire::read(in.getProfile());
                                               message.checkpoint_bytes_read = in.getCheckpointBytesRead();
                                               return message;
                                             });
}

Outcome<WireMessage> Codec<cluster::PartsReady>::encode(const cluster::PartsReady& message) {
  return wire::encode<schema::PartsReady>([&](schema::PartsReady::Builder out) {
    out.setNode(message.node.value);
    out.setEpoch(message.epoch.value);
    write_held(out.initHeld(), message);
  });
}
Outcome<cluster::PartsReady> Codec<cluster::PartsReady>::decode(Bytes metadata, Buffer payload) {
  CONSORT_RETURN_IF_ERROR(no_payload(payload));
  return wire::decode<schema::PartsReady>(metadata, [](schema::PartsReady::Reader in) -> Outcome<cluster::PartsReady> {
    cluster::PartsReady message;
    message.node = NodeId{in.getNode()};
    message.epoch = Epoch{in.getEpoch()};
    read_held(in.getHeld(), message);
    return message;
  });
}

Outcome<WireMessage> Codec<cluster::ViewUpdate>::encode(const cluster::ViewUpdate& message) {
  CONSORT_CHECK(message.view != nullptr);
  return wire::encode_table<schema::View>([&](schema::View::Builder out) { wire::write(out, *message.view); });
}
Outcome<cluster::ViewUpdate> Codec<cluster::ViewUpdate>::decode(Bytes, Buffer payload) {
  return wire::decode<schema::View>(payload.bytes(), [](schema::View::Reader in) -> Outcome<cluster::ViewUpdate> {
    cluster::ViewUpdate message;
    message.view = std::make_shared<const ClusterView>(wire::read(in));
    return message;
  });
}

Outcome<WireMessage> Codec<cluster::Heartbeat>::encode(const cluster::Heartbeat& message) {
  return wire::encode<schema::Heartbeat>([&](schema::Heartbeat::Builder out) {
    out.setSequence(message.sequence);
    out.setViewVersion(message.view_version);
  });
}
Outcome<cluster::Heartbeat> Codec<cluster::Heartbeat>::decode(Bytes metadata, Buffer payload) {
  CONSORT_RETURN_IF_ERROR(no_payload(payload));
  return wire::decode<schema::Heartbeat>(metadata, [](schema::Heartbeat::Reader in) -> Outcome<cluster::Heartbeat> {
    cluster::Heartbeat message;
    message.sequence = in.getSequence();
    message.view_version = in.getViewVersion();
    return message;
  });
}

// --- worker and worker ---

Outcome<WireMessage> Codec<cluster::LinkEcho>::encode(const cluster::LinkEcho& message) {
  return wire::encode<schema::LinkEcho>([](schema::LinkEcho::Builder) {}, message.payload);
}
Outcome<cluster::LinkEcho> Codec<cluster::LinkEcho>::decode(Bytes metadata, Buffer payload) {
  return wire::decode<schema::LinkEcho>(metadata, [&](schema::LinkEcho::Reader) -> Outcome<cluster::LinkEcho> {
    cluster::LinkEcho message;
    message.payload = std::move(payload);
    return message;
  });
}

// --- agents ---

Outcome<WireMessage> Codec<cluster::AgentHello>::encode(const cluster::AgentHello& message) {
  return wire::encode<schema::AgentHello>([&](schema::AgentHello::Builder out) {
    out.setHost(message.host);
    out.setControlAddress(wire::data(message.control_address.bytes));
    out.setViewVersion(message.view_version);
    auto children = out.initChildren(static_cast<unsigned>(message.children.size()));
    for (unsigned i = 0; i < children.size(); ++i) {
      const auto& child = message.children[i];
      children[i].setNode(child.node.value);
      children[i].setEnded(child.ended.value);
      children[i].setRunning(child.running);
      children[i].setGivenUp(child.given_up);
      children[i].setTrouble(child.trouble);
    }
  });
}
Outcome<cluster::AgentHello> Codec<cluster::AgentHello>::decode(Bytes metadata, Buffer payload) {
  CONSORT_RETURN_IF_ERROR(no_payload(payload));
  return wire::decode<schema::AgentHello>(metadata, [](schema::AgentHello::Reader in) -> Outcome<cluster::AgentHello> {
    cluster::AgentHello message;
    message.host = wire::text(in.getHost());
    message.control_address = wire::read_address(in.getControlAddress());
    message.view_version = in.getViewVersion();
    const auto children = in.getChildren();
    message.children.reserve(wire::list_length(children, kMaxChildren));
    for (const auto child : children) {
      message.children.push_back({NodeId{child.getNode()}, Incarnation{child.getEnded()}, child.getRunning(),
                                  child.getGivenUp(), wire::text(child.getTrouble())});
    }
    return message;
  });
}

Outcome<WireMessage> Codec<cluster::WorkerJoined>::encode(const cluster::WorkerJoined& message) {
  return wire::encode<schema::WorkerJoined>([&](schema::WorkerJoined::Builder out) {
    out.setNode(message.node.value);
    out.setIncarnation(message.incarnation.value);
    out.setControlAddress(wire::data(message.control_address.bytes));
  });
}
Outcome<cluster::WorkerJoined> Codec<cluster::WorkerJoined>::decode(Bytes metadata, Buffer payload) {
  CONSORT_RETURN_IF_ERROR(no_payload(payload));
  return wire::decode<schema::WorkerJoined>(metadata,
                                            [](schema::WorkerJoined::Reader in) -> Outcome<cluster::WorkerJoined> {
                                              cluster::WorkerJoined message;
                                              message.node = NodeId{in.getNode()};
                                              message.incarnation = Incarnation{in.getIncarnation()};
                                              message.control_address = wire::read_address(in.getControlAddress());
                                              return message;
                                            });
}

Outcome<WireMessage> Codec<cluster::ChildExited>::encode(const cluster::ChildExited& message) {
  return wire::encode<schema::ChildExited>([&](schema::ChildExited::Builder out) {
    out.setNode(message.node.value);
    out.setIncarnation(message.incarnation.value);
    out.setDescription(message.description);
    out.setGivenUp(message.given_up);
  });
}
Outcome<cluster::ChildExited> Codec<cluster::ChildExited>::decode(Bytes metadata, Buffer payload) {
  CONSORT_RETURN_IF_ERROR(no_payload(payload));
  return wire::decode<schema::ChildExited>(metadata,
                                           [](schema::ChildExited::Reader in) -> Outcome<cluster::ChildExited> {
                                             cluster::ChildExited message;
                                             message.node = NodeId{in.getNode()};
                                             message.incarnation = Incarnation{in.getIncarnation()};
                                             message.description = wire::text(in.getDescription());
                                             message.given_up = in.getGivenUp();
                                             return message;
                                           });
}

Outcome<WireMessage> Codec<cluster::NodeLost>::encode(const cluster::NodeLost& message) {
  return wire::encode<schema::NodeLost>([&](schema::NodeLost::Builder out) {
    out.setNode(message.node.value);
    out.setIncarnation(message.incarnation.value);
    out.setRestart(message.restart);
    out.setWhy(message.why);
  });
}
Outcome<cluster::NodeLost> Codec<cluster::NodeLost>::decode(Bytes metadata, Buffer payload) {
  CONSORT_RETURN_IF_ERROR(no_payload(payload));
  return wire::decode<schema::NodeLost>(metadata, [](schema::NodeLost::Reader in) -> Outcome<cluster::NodeLost> {
    cluster::NodeLost message;
    message.node = NodeId{in.getNode()};
    message.incarnation = Incarnation{in.getIncarnation()};
    message.restart = in.getRestart();
    message.why = wire::text(in.getWhy());
    return message;
  });
}

// --- operator ---

Outcome<WireMessage> Codec<cluster::ClusterStatusReport>::encode(const cluster::ClusterStatusReport& message) {
  return wire::encode_table<schema::ClusterStatusReport>([&](schema::ClusterStatusReport::Builder out) {
    wire::write(out.initView(), message.view == nullptr ? ClusterView{} : *message.view);
    out.setTrouble(message.trouble);
    out.setNeedsOperator(message.needs_operator);
    out.setPrediction(message.prediction);
    out.setAnsweredBy(message.answered_by.value);
    auto suspected = out.initSuspected(static_cast<unsigned>(message.suspected.size()));
    for (unsigned i = 0; i < suspected.size(); ++i) suspected.set(i, message.suspected[i].value);
    out.setCoordinatorReachable(message.coordinator_reachable);
    auto counters = out.initCounters(static_cast<unsigned>(message.counters.size()));
    for (unsigned i = 0; i < counters.size(); ++i) {
      counters[i].setName(message.counters[i].first);
      counters[i].setValue(message.counters[i].second);
    }
  });
}
Outcome<cluster::ClusterStatusReport> Codec<cluster::ClusterStatusReport>::decode(Bytes, Buffer payload) {
  return wire::decode<schema::ClusterStatusReport>(
      payload.bytes(), [](schema::ClusterStatusReport::Reader in) -> Outcome<cluster::ClusterStatusReport> {
        cluster::ClusterStatusReport message;
        message.view = std::make_shared<const ClusterView>(wire::read(in.getView()));
        message.trouble = wire::text(in.getTrouble());
        message.needs_operator = in.getNeedsOperator();
        message.prediction = wire::text(in.getPrediction());
        message.answered_by = NodeId{in.getAnsweredBy()};
        const auto suspected = in.getSuspected();
        message.suspected.reserve(wire::list_length(suspected, wire::kMaxMembers));
        for (const auto node : suspected) message.suspected.emplace_back(node);
        message.coordinator_reachable = in.getCoordinatorReachable();
        const auto counters = in.getCounters();
        message.counters.reserve(wire::list_length(counters, kMaxCounters));
        for (const auto counter : counters) {
          message.counters.emplace_back(wire::text(counter.getName()), counter.getValue());
        }
        return message;
      });
}

Outcome<WireMessage> Codec<cluster::NodeTraceEvents>::encode(const cluster::NodeTraceEvents& message) {
  return wire::encode_table<schema::NodeTraceEvents>([&](schema::NodeTraceEvents::Builder out) {
    out.setNode(message.node.value);
    out.setName(message.name);
    out.setNowNs(message.now_ns);
    auto strings = out.initStrings(static_cast<unsigned>(message.strings.size()));
    for (unsigned i = 0; i < strings.size(); ++i) strings.set(i, message.strings[i]);
    auto numbers = out.initEvents(static_cast<unsigned>(message.events.size()) * kNumbersPerEvent);
    unsigned at = 0;
    for (const auto& event : message.events) {
      for (const std::int64_t number :
           {std::int64_t{event.name}, std::int64_t{event.track}, event.begin_ns, event.length_ns, event.a, event.b}) {
        numbers.set(at++, number);
      }
    }
  });
}
Outcome<cluster::NodeTraceEvents> Codec<cluster::NodeTraceEvents>::decode(Bytes, Buffer payload) {
  return wire::decode<schema::NodeTraceEvents>(
      payload.bytes(), [](schema::NodeTraceEvents::Reader in) -> Outcome<cluster::NodeTraceEvents> {
        cluster::NodeTraceEvents message;
        message.node = NodeId{in.getNode()};
        message.name = wire::text(in.getName());
        message.now_ns = in.getNowNs();
        const auto strings = in.getStrings();
        message.strings.reserve(wire::list_length(strings, kMaxTraceStrings));
        for (const auto string : strings) message.strings.push_back(wire::text(string));
        const auto numbers = in.getEvents();
        const auto count = wire::list_length(numbers, kMaxTraceEvents * kNumbersPerEvent);
        KJ_REQUIRE(count % kNumbersPerEvent == 0, "a trace has a broken event");
        message.events.reserve(count / kNumbersPerEvent);
        for (unsigned i = 0; i < count; i += kNumbersPerEvent) {
          const std::int64_t name = numbers[i];
          const std::int64_t track = numbers[i + 1];
          const auto string_count = static_cast<std::int64_t>(message.strings.size());
          KJ_REQUIRE(name >= 0 && name < string_count && track >= 0 && track < string_count,
                     "a trace event has no name");
          message.events.push_back({static_cast<std::uint32_t>(name), static_cast<std::uint32_t>(track), numbers[i + 2],
                                    numbers[i + 3], numbers[i + 4], numbers[i + 5]});
        }
        return message;
      });
}

Outcome<WireMessage> Codec<cluster::EnableTrace>::encode(const cluster::EnableTrace& message) {
  return wire::encode<schema::EnableTrace>([&](schema::EnableTrace::Builder out) { out.setOn(message.on); });
}
Outcome<cluster::EnableTrace> Codec<cluster::EnableTrace>::decode(Bytes metadata, Buffer payload) {
  CONSORT_RETURN_IF_ERROR(no_payload(payload));
  return wire::decode<schema::EnableTrace>(metadata,
                                           [](schema::EnableTrace::Reader in) -> Outcome<cluster::EnableTrace> {
                                             cluster::EnableTrace message;
                                             message.on = in.getOn();
                                             return message;
                                           });
}

}  // namespace consort::runtime

namespace consort::cluster {

NodeTraceEvents pack_trace(runtime::NodeId node, std::string name, runtime::Instant now,
                           const std::vector<runtime::TraceEvent>& events) {
  NodeTraceEvents packed;
  packed.node = node;
  packed.name = std::move(name);
  packed.now_ns = now.time_since_epoch().count();
  std::map<std::string_view, std::uint32_t> numbers;
  const auto number_of = [&](std::string_view text) {
    const auto [at, added] = numbers.emplace(text, static_cast<std::uint32_t>(packed.strings.size()));
    if (added) packed.strings.emplace_back(text);
    return at->second;
  };
  packed.events.reserve(events.size());
  for (const auto& event : events) {
    packed.events.push_back({number_of(event.name), number_of(event.track), event.begin.time_since_epoch().count(),
                             event.length.count(), event.a, event.b});
  }
  return packed;
}

runtime::NodeTrace unpack_trace(const NodeTraceEvents& packed, runtime::Duration offset) {
  runtime::NodeTrace trace;
  trace.node = packed.name;
  trace.process = packed.node.value;
  trace.offset = offset;
  trace.events.reserve(packed.events.size());
  for (const auto& event : packed.events) {
    trace.events.push_back({packed.strings[event.name], packed.strings[event.track],
                            runtime::Instant(runtime::Duration(event.begin_ns)), runtime::Duration(event.length_ns),
                            event.a, event.b});
  }
  return trace;
}

}  // namespace consort::cluster
