// SPDX-License-Identifier: Apache-2.0
#include "cluster/messages.hpp"

#include <fstream>
#include <map>
#include <regex>

#include "runtime/env.hpp"
#include "support/test.hpp"

namespace {

using namespace consort::cluster;
using namespace consort::runtime;

// Through the wire and back.
template <class M>
M travel(const M& message) {
  auto wire = Codec<M>::encode(message);
  REQUIRE(wire.ok());
  CHECK(wire->metadata.size() <= kMaxMetadataBytes);
  auto back = Codec<M>::decode(wire->metadata, wire->payload);
  REQUIRE(back.ok());
  return std::move(back).value();
}

std::vector<std::byte> some_bytes(std::size_t n, unsigned first) {
  std::vector<std::byte> bytes(n);
  for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(first + i);
  return bytes;
}

ClusterView some_view(std::uint32_t parts) {
  ClusterView view;
  view.epoch = Epoch{7};
  view.version = 1234567890123;
  for (std::uint32_t n = 1; n <= 3; ++n) {
    Member member;
    member.node = NodeId{n};
    member.incarnation = Incarnation{n + 4};
    member.name = "node" + std::to_string(n);
    member.roles = {n == 1, n == 2, true, n != 2};
    member.state = static_cast<NodeState>(n);
    member.data_address.bytes = some_bytes(300, n);
    member.control_address.bytes = some_bytes(20, n);
    member.data_token.fill(static_cast<std::byte>(n));
    member.profile = {1e9 / n, n << 30, n << 20, 1e-4, 1e8};
    member.checkpoint_bytes_read = 77 * n;
    member.part_count = n;
    member.part_bytes = 99 * n;
    view.members.push_back(member);
  }
  view.numeric_plan.cut = {{0, 128}, {128, 64}};
  for (std::uint32_t i = 0; i < parts; ++i) {
    view.placement[PartId{3, kRoutedExpertPart, i, 0, 128}] = {NodeId{1 + i % 3}, NodeId{1 + (i + 1) % 3}};
  }
  return view;
}

void check_same(const ClusterView& a, const ClusterView& b) {
  CHECK(a.epoch == b.epoch);
  CHECK(a.version == b.version);
  CHECK(a.numeric_plan == b.numeric_plan);
  CHECK(a.placement == b.placement);
  REQUIRE(a.members.size() == b.members.size());
  for (std::size_t i = 0; i < a.members.size(); ++i) {
    const Member& x = a.members[i];
    const Member& y = b.members[i];
    CHECK(x.node == y.node);
    CHECK(x.incarnation == y.incarnation);
    CHECK(x.name == y.name);
    CHECK(x.roles == y.roles);
    CHECK(x.state == y.state);
    CHECK(x.data_address.bytes == y.data_address.bytes);
    CHECK(x.control_address.bytes == y.control_address.bytes);
    CHECK(x.data_token == y.data_token);
    CHECK(x.profile.expert_bytes_per_second == y.profile.expert_bytes_per_second);
    CHECK(x.profile.memory_bytes == y.profile.memory_bytes);
    CHECK(x.checkpoint_bytes_read == y.checkpoint_bytes_read);
    CHECK(x.part_count == y.part_count);
    CHECK(x.part_bytes == y.part_bytes);
  }
}

TEST_CASE("a view travels whole, also with tens of thousands of parts") {
  for (const std::uint32_t parts : {0u, 5u, 60000u}) {
    ViewUpdate update;
    update.view = std::make_shared<const ClusterView>(some_view(parts));
    check_same(*travel(update).view, *update.view);
  }
}

TEST_CASE("a join travels whole") {
  Join join;
  join.node = NodeId{3};
  join.incarnation = Incarnation{9};
  join.boot = 0xFEDCBA9876543210;
  join.manifest = "abc";
  join.build = "0.1.0";
  join.data_address.bytes = some_bytes(900, 1);
  join.control_address.bytes = some_bytes(30, 2);
  join.data_token.fill(std::byte{5});
  join.profile = {1.5e9, 1u << 30, 2, 3e-5, 4e9};
  join.loaded = Epoch{2};
  join.part_count = 4;
  join.part_bytes = 5;
  join.checkpoint_bytes_read = 6;
  const Join back = travel(join);
  CHECK(back.node == join.node);
  CHECK(back.incarnation == join.incarnation);
  CHECK(back.boot == join.boot);
  CHECK(back.manifest == join.manifest);
  CHECK(back.build == join.build);
  CHECK(back.protocol == kClusterProtocolVersion);
  CHECK(back.data_address.bytes == join.data_address.bytes);
  CHECK(back.control_address.bytes == join.control_address.bytes);
  CHECK(back.data_token == join.data_token);
  CHECK(back.profile.expert_bytes_per_second == 1.5e9);
  CHECK(back.loaded == join.loaded);
  CHECK(back.part_count == 4);
  CHECK(back.part_bytes == 5);
  CHECK(back.checkpoint_bytes_read == 6);
}

TEST_CASE("the other messages travel whole") {
  CHECK(travel(Joined{{}, Incarnation{4}}).incarnation.value == 4);
  CHECK(travel(ReportProfile{{}, NodeId{2}, {5, 6, 7, 8, 9}, 10}).profile.link_bytes_per_second == 9);
  CHECK(travel(PartsReady{{}, NodeId{2}, Epoch{3}, 4, 5, 6}).part_bytes == 5);
  const auto beat = travel(Heartbeat{{}, 5, 6});
  CHECK(beat.sequence == 5);
  CHECK(beat.view_version == 6);
  travel(RegisterAgain{});
  LinkEcho echo;
  echo.payload = Buffer::copy_of(some_bytes(1000, 3));
  CHECK(travel(echo).payload.size() == 1000);
  AgentHello hello;
  hello.host = "127.0.0.1";
  hello.control_address.bytes = some_bytes(10, 1);
  hello.view_version = 3;
  hello.children = {{NodeId{1}, Incarnation{2}, true, false, "signal 9"}, {NodeId{2}, Incarnation{0}, false, true, ""}};
  const auto hello_back = travel(hello);
  REQUIRE(hello_back.children.size() == 2);
  CHECK(hello_back.children[0].trouble == "signal 9");
  CHECK(hello_back.children[1].given_up);
  CHECK(travel(WorkerJoined{{}, NodeId{1}, Incarnation{2}, {some_bytes(9, 1)}}).control_address.bytes.size() == 9);
  CHECK(travel(TakeProbeTurn{{}, NodeId{8}}).node.value == 8);
  CHECK(travel(ReleaseProbeTurn{{}, NodeId{8}}).node.value == 8);
  CHECK(travel(ChildExited{{}, NodeId{1}, Incarnation{2}, "exit code 1", true}).description == "exit code 1");
  const auto lost = travel(NodeLost{{}, NodeId{1}, Incarnation{2}, false, "silent"});
  CHECK_FALSE(lost.restart);
  CHECK(lost.why == "silent");
  CHECK(travel(LeaveCluster{{}, NodeId{5}}).node.value == 5);
  CHECK_FALSE(travel(EnableTrace{{}, false}).on);
  travel(ProfileTaken{});
  travel(PartsAccepted{});
  travel(LinkEchoed{});
  travel(AgentWelcome{});
  travel(ProbeTurn{});
  travel(NodeReplaced{});
  travel(Shutdown{});
  travel(ShuttingDown{});
  travel(LeftCluster{});
  travel(ClusterStatus{});
  travel(CollectTrace{});
  travel(TraceEnabled{});
  travel(ReadFigures{});
}

TEST_CASE("a node's figures travel whole, also of the widest model") {
  NodeFiguresRead read;
  NodeFigures& figures = read.figures;
  figures.node = NodeId{2};
  figures.incarnation = Incarnation{3};
  figures.at_ns = 123456789;
  figures.set(figure::kSteps, 7);
  figures.set(figure::kPartBytesRead, std::uint64_t{1} << 40);
  figures.edges = {{NodeId{1}, 5, 4, 3, 2, 1}, {NodeId{3}, 6, 6, 6, 6, 6}};
  for (std::uint32_t layer = 3; layer < 61; ++layer) {
    figures.loads.push_back({layer, std::vector<std::uint32_t>(256, layer)});
  }
  const NodeFigures back = travel(read).figures;
  CHECK(back.node == figures.node);
  CHECK(back.incarnation == figures.incarnation);
  CHECK(back.at_ns == figures.at_ns);
  CHECK(back.numbers == figures.numbers);
  CHECK(back.edges == figures.edges);
  CHECK(back.loads == figures.loads);
  CHECK(back.value(figure::kSteps) == 7);
  CHECK(back.value("of another version") == 0);
  const auto wire = Codec<NodeFiguresRead>::encode(read);
  REQUIRE(wire.ok());
  CHECK(wire->payload.size() < 64 * 1024);  // 58 x 256 numbers of four bytes, and little else
}

TEST_CASE("a status report travels whole") {
  ClusterStatusReport report;
  report.view = std::make_shared<const ClusterView>(some_view(10));
  report.trouble = "memory is missing";
  report.needs_operator = true;
  report.prediction = "3 ms per token";
  report.answered_by = NodeId{2};
  report.suspected = {NodeId{1}, NodeId{3}};
  report.coordinator_reachable = false;
  report.counters = {{"sent", 5}, {"received", 6}};
  const auto back = travel(report);
  check_same(*back.view, *report.view);
  CHECK(back.trouble == report.trouble);
  CHECK(back.needs_operator);
  CHECK(back.suspected == report.suspected);
  CHECK_FALSE(back.coordinator_reachable);
  CHECK(back.counters == report.counters);
}

TEST_CASE("a trace travels whole") {
  std::vector<TraceEvent> events;
  for (int i = 0; i < 10000; ++i) {
    events.push_back({i % 2 == 0 ? "layer" : "part", "device", Instant(Duration(i)), Duration(3), i, -i});
  }
  const auto back = travel(pack_trace(NodeId{4}, "attic", Instant(Duration(5)), events));
  CHECK(back.strings.size() == 3);
  const NodeTrace trace = unpack_trace(back, Duration(9));
  CHECK(trace.node == "attic");
  CHECK(trace.process == 4);
  REQUIRE(trace.events.size() == events.size());
  CHECK(trace.events[7].name == "part");
  CHECK(trace.events[7].b == -7);
  CHECK(trace.events[7].begin == events[7].begin);
}

template <class M>
void check_survives_damage(const M& message, Rng& rng) {
  const auto wire = Codec<M>::encode(message);
  REQUIRE(wire.ok());
  const auto payload = wire->payload.bytes();
  for (int round = 0; round < 300; ++round) {
    auto metadata = wire->metadata;
    std::vector<std::byte> body(payload.begin(), payload.end());
    auto& target = body.empty() || (!metadata.empty() && rng.below(2) == 0) ? metadata : body;
    if (target.empty()) continue;
    for (std::uint64_t n = 1 + rng.below(4); n > 0; --n) {
      target[rng.below(target.size())] = static_cast<std::byte>(rng.next());
    }
    if (rng.below(4) == 0) target.resize(rng.below(target.size()));
    const auto back = Codec<M>::decode(metadata, Buffer::copy_of(body));
    if (!back.ok()) CHECK(back.error().kind == ErrorKind::kMalformed);
  }
}

TEST_CASE("damaged messages decode to something or to malformed, and never crash") {
  Rng rng(1);
  ViewUpdate update;
  update.view = std::make_shared<const ClusterView>(some_view(20));
  check_survives_damage(update, rng);
  Join join;
  join.manifest = "manifest";
  join.data_address.bytes = some_bytes(100, 1);
  check_survives_damage(join, rng);
  AgentHello hello;
  hello.children = {{NodeId{1}, Incarnation{2}, true, false, "signal 9"}};
  check_survives_damage(hello, rng);
  ClusterStatusReport report;
  report.view = update.view;
  report.counters = {{"sent", 5}};
  check_survives_damage(report, rng);
  check_survives_damage(pack_trace(NodeId{4}, "attic", Instant(), {{"a", "b", Instant(), Duration(1), 2, 3}}), rng);
}

TEST_CASE("a placement with an unknown holder count or disorder is malformed") {
  ViewUpdate update;
  update.view = std::make_shared<const ClusterView>(some_view(4));
  auto wire = Codec<ViewUpdate>::encode(update);
  REQUIRE(wire.ok());
  CHECK(Codec<ViewUpdate>::decode({}, Buffer()).error().kind == ErrorKind::kMalformed);
  CHECK(Codec<ViewUpdate>::decode({}, wire->payload.slice(0, wire->payload.size() - 8)).error().kind ==
        ErrorKind::kMalformed);
  CHECK(Codec<ViewUpdate>::decode({}, wire->payload.slice(0, 12)).error().kind == ErrorKind::kMalformed);
}

TEST_CASE("a message without payload refuses one") {
  const auto wire = Codec<Heartbeat>::encode(Heartbeat{});
  REQUIRE(wire.ok());
  CHECK(Codec<Heartbeat>::decode(wire->metadata, Buffer::allocate(8)).error().kind == ErrorKind::kMalformed);
}

TEST_CASE("schema and structs name the same kinds, each once") {
  std::ifstream file(CONSORT_SOURCE_DIR "/cluster/messages.capnp");
  REQUIRE(file.good());
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  std::map<std::string, unsigned long> schema;
  const std::regex pattern("struct (\\w+) \\$Wire\\.kind\\((0x[0-9A-Fa-f]+)\\)");
  for (std::sregex_iterator at(text.begin(), text.end(), pattern), end; at != end; ++at) {
    schema[(*at)[1]] = std::stoul((*at)[2], nullptr, 16);
  }
  std::map<unsigned long, int> uses;
  for (const auto& [name, kind] : schema) {
    CHECK(kind >= 0x0100);
    CHECK(kind <= 0x017F);
    CHECK(++uses[kind] == 1);
  }
  const std::map<std::string, MessageKind> structs{
#define KIND(Type) {#Type, Type::kKind}
      KIND(Join),
      KIND(Joined),
      KIND(ReportProfile),
      KIND(ProfileTaken),
      KIND(PartsReady),
      KIND(PartsAccepted),
      KIND(ViewUpdate),
      KIND(Heartbeat),
      KIND(LinkEcho),
      KIND(LinkEchoed),
      KIND(RegisterAgain),
      KIND(AgentHello),
      KIND(AgentWelcome),
      KIND(WorkerJoined),
      KIND(TakeProbeTurn),
      KIND(ProbeTurn),
      KIND(ReleaseProbeTurn),
      KIND(ChildExited),
      KIND(NodeLost),
      KIND(NodeReplaced),
      KIND(Shutdown),
      KIND(ShuttingDown),
      KIND(LeaveCluster),
      KIND(LeftCluster),
      KIND(ClusterStatus),
      KIND(ClusterStatusReport),
      KIND(CollectTrace),
      KIND(NodeTraceEvents),
      KIND(EnableTrace),
      KIND(TraceEnabled),
      KIND(ReadFigures),
      KIND(NodeFiguresRead)};
#undef KIND
  CHECK(structs.size() == schema.size());
  for (const auto& [name, kind] : structs) CHECK(schema[name] == kind);
}

}  // namespace
