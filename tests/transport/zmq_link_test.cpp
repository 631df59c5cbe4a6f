// What only the control plane owes: keys decide, clients are answered over their own connection.
// SPDX-License-Identifier: Apache-2.0
#include "transport/zmq_link.hpp"

#include "link_rig.hpp"

namespace consort::tests {
namespace {

using transport::AllowedKey;
using transport::KeyRole;
using transport::kFirstClientNode;
using transport::make_curve_keys;
using transport::ZmqLink;
using transport::ZmqOptions;

constexpr NodeId kServer{11};
constexpr Incarnation kFirst{5};

struct World {
  ZmqRig rig;
  transport::CurveKeys operator_keys = make_curve_keys();
  std::unique_ptr<RigNode> server;
  World() {
    rig.allowed.push_back({"me", KeyRole::kOperator, NodeId(0), operator_keys.public_key});
    server = rig.make(kServer, kFirst);
  }
  std::unique_ptr<RigNode> client(std::uint32_t id, const transport::CurveKeys& keys) {
    ZmqOptions options;
    options.keys = keys;
    return ZmqRig::make(NodeId(id), Incarnation(1), options);
  }
};

TEST_CASE("a client needs no port and no token, and is answered over its own connection") {
  World world;
  auto client = world.client(kFirstClientNode + 17, world.operator_keys);
  CHECK(client->link->address().bytes.empty());
  const Nodes both = {world.server.get(), client.get()};
  REQUIRE(client->link->connect(kServer, kFirst, world.server->link->address(), {}).ok());
  world.server->sink.react = [&](const Received& received) {
    REQUIRE(world.server->link
                ->send(received.from, make_frame(*world.server, *client, MessageClass::kSystem,
                                                 received.frame.header.correlation, 2000, FrameType::kReply))
                .ok());
  };
  REQUIRE(client->link->send(kServer, make_frame(*client, *world.server, MessageClass::kSystem, 5, 10, FrameType::kAsk))
              .ok());
  REQUIRE(turn_until(both, [&] { return client->sink.frames.size() == 1; }));
  CHECK(client->sink.frames[0].frame.header.correlation == 5);
  CHECK(client->sink.frames[0].from == kServer);
  CHECK(world.server->link->connected(client->node));
  // When it has gone, sending says so.
  const auto gone = client->node;
  const auto frame = make_frame(*world.server, *client, MessageClass::kSystem, 6);
  client.reset();
  runtime::Status status = runtime::done();
  REQUIRE(turn_until({world.server.get()}, [&] {
    status = world.server->link->send(gone, frame);
    return !status.ok();
  }));
  CHECK(status.error().kind == runtime::ErrorKind::kPeerDown);
  CHECK(!world.server->link->connected(gone));
}

TEST_CASE("a key outside the allow-list is told so and never heard") {
  World world;
  auto stranger = world.client(kFirstClientNode + 1, make_curve_keys());
  REQUIRE(stranger->link->connect(kServer, kFirst, world.server->link->address(), {}).ok());
  REQUIRE(stranger->link->send(kServer, make_frame(*stranger, *world.server, MessageClass::kSystem, 1)).ok());
  REQUIRE(turn_until({world.server.get(), stranger.get()}, [&] { return stranger->sink.lost(kServer) == 1; }));
  CHECK(stranger->sink.changes[0].why.find("key") != std::string::npos);
  CHECK(world.server->sink.frames.empty());
}

TEST_CASE("a key speaks only for its own node") {
  World world;
  // Node 33's key, claiming to be node 22; and an operator's key, claiming to be a node.
  for (const auto& keys : {world.rig.keys.at(33), world.operator_keys}) {
    auto impostor = world.client(22, keys);
    REQUIRE(impostor->link->connect(kServer, kFirst, world.server->link->address(), {}).ok());
    REQUIRE(impostor->link->send(kServer, make_frame(*impostor, *world.server, MessageClass::kSystem, 1)).ok());
    REQUIRE(turn_until({world.server.get(), impostor.get()}, [&] { return impostor->sink.lost(kServer) == 1; }));
  }
  CHECK(world.server->fault(FrameFault::kUnauthorised) == 2);
  CHECK(world.server->sink.frames.empty());
}

TEST_CASE("a living client's id cannot be taken with another key") {
  World world;
  const auto second_keys = make_curve_keys();
  world.rig.allowed.push_back({"you", KeyRole::kOperator, NodeId(0), second_keys.public_key});
  world.server = world.rig.make(kServer, kFirst);
  auto first = world.client(kFirstClientNode + 3, world.operator_keys);
  REQUIRE(first->link->connect(kServer, kFirst, world.server->link->address(), {}).ok());
  REQUIRE(turn_until({world.server.get(), first.get()}, [&] { return first->link->connected(kServer); }));
  auto second = world.client(kFirstClientNode + 3, second_keys);
  REQUIRE(second->link->connect(kServer, kFirst, world.server->link->address(), {}).ok());
  const Nodes all = {world.server.get(), first.get(), second.get()};
  REQUIRE(turn_until(all, [&] { return second->sink.lost(kServer) == 1; }));
  REQUIRE(world.server->link->send(first->node, make_frame(*world.server, *first, MessageClass::kSystem, 8)).ok());
  REQUIRE(turn_until(all, [&] { return first->sink.frames.size() == 1; }));
}

TEST_CASE("a key taken off the list is no longer heard") {
  World world;
  auto client = world.client(kFirstClientNode + 4, world.operator_keys);
  const Nodes both = {world.server.get(), client.get()};
  REQUIRE(client->link->connect(kServer, kFirst, world.server->link->address(), {}).ok());
  REQUIRE(turn_until(both, [&] { return client->link->connected(kServer); }));
  dynamic_cast<ZmqLink&>(*world.server->link).set_allowed({});
  REQUIRE(client->link->send(kServer, make_frame(*client, *world.server, MessageClass::kSystem, 1)).ok());
  REQUIRE(turn_until(both, [&] { return world.server->fault(FrameFault::kUnauthorised) == 1; }));
  CHECK(world.server->sink.frames.empty());
}

TEST_CASE("a wrong server key ends in words") {
  World world;
  auto endpoint = ZmqLink::parse_address(world.server->link->address()).value();
  endpoint.public_key = make_curve_keys().public_key;
  auto client = world.client(kFirstClientNode + 5, world.operator_keys);
  REQUIRE(client->link->connect(kServer, kFirst, ZmqLink::make_address(endpoint), {}).ok());
  REQUIRE(turn_until({world.server.get(), client.get()}, [&] { return client->sink.lost(kServer) == 1; }));
}

TEST_CASE("connecting waits for a server that comes later") {
  World world;
  const auto endpoint = ZmqLink::parse_address(world.server->link->address()).value();
  world.server.reset();
  auto client = world.client(kFirstClientNode + 6, world.operator_keys);
  REQUIRE(client->link->connect(kServer, kFirst, ZmqLink::make_address(endpoint), {}).ok());
  turn_for({client.get()}, std::chrono::milliseconds(250));
  CHECK(client->sink.lost(kServer) == 0);
  ZmqOptions options;
  options.bind = endpoint.url;
  options.keys = world.rig.keys.at(kServer.value);
  options.allowed = world.rig.allowed;
  auto opened = ZmqLink::open(kServer, kFirst, options);
  if (!opened.ok()) SKIP("the port was taken meanwhile: " + opened.error().text);
  world.server = ZmqRig::wrap(kServer, kFirst, std::move(opened).value());
  REQUIRE(turn_until({world.server.get(), client.get()}, [&] { return client->link->connected(kServer); }));
}

TEST_CASE("hundreds of clients that came and went leave nothing behind") {
  World world;
  for (std::uint32_t i = 0; i < 150; ++i) {
    auto client = world.client(kFirstClientNode + 100 + i, world.operator_keys);
    REQUIRE(client->link->connect(kServer, kFirst, world.server->link->address(), {}).ok());
    REQUIRE(turn_until({world.server.get(), client.get()}, [&] { return client->link->connected(kServer); }));
  }
  int remembered = 0;
  for (std::uint32_t i = 0; i < 150; ++i)
    remembered += world.server->link->connected(NodeId(kFirstClientNode + 100 + i));
  CHECK(remembered <= 128);
}

TEST_CASE("addresses and binds that would be mistakes are refused in words") {
  ZmqOptions options;
  options.keys = make_curve_keys();
  for (const char* bind : {"tcp://*:0", "tcp://0.0.0.0:0", "tcp://[::]:0", "tcp://127.0.0.1:notaport"}) {
    options.bind = bind;
    const auto opened = ZmqLink::open(kServer, kFirst, options);
    REQUIRE(!opened.ok());
    CHECK(opened.error().kind == runtime::ErrorKind::kInvalid);
  }
  const auto bytes_of = [](std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return runtime::LinkAddress{{bytes.begin(), bytes.end()}};
  };
  const auto key = make_curve_keys().public_key;
  CHECK(ZmqLink::parse_address(bytes_of("tcp://127.0.0.1:80 " + key)).ok());
  CHECK(!ZmqLink::parse_address(bytes_of("ipc:///tmp/x " + key)).ok());
  CHECK(!ZmqLink::parse_address(bytes_of("tcp://127.0.0.1:80")).ok());
  CHECK(!ZmqLink::parse_address(bytes_of("tcp://127.0.0.1:80 " + key + "0")).ok());
  CHECK(!ZmqLink::parse_address(bytes_of("tcp://" + std::string(300, 'a') + ' ' + key)).ok());
}

}  // namespace
}  // namespace consort::tests
