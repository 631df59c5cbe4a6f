// What every kind of link owes, whichever wire it is.
// SPDX-License-Identifier: Apache-2.0
#include <poll.h>

#include <algorithm>
#include <array>

#include "link_rig.hpp"

namespace consort::tests {
namespace {

constexpr NodeId kA{11};
constexpr NodeId kB{22};
constexpr Incarnation kFirst{5};
constexpr Incarnation kSecond{6};

#define LINK_TEST(name) TEST_CASE_TEMPLATE(name, Rig, LoopbackRig, UcxMemoryRig, UcxTcpRig, ZmqRig, ShapedRig)

template <class Rig>
struct Pair {
  Rig rig;
  std::unique_ptr<RigNode> a;
  std::unique_ptr<RigNode> b;
  explicit Pair(RigOptions options_a = {}, RigOptions options_b = {})
      : a(rig.make(kA, kFirst, std::move(options_a))), b(rig.make(kB, kFirst, std::move(options_b))) {}
  Nodes nodes() const { return {a.get(), b.get()}; }
  void join() {
    REQUIRE(connect(*a, *b).ok());
    REQUIRE(connect(*b, *a).ok());
    REQUIRE(turn_until(nodes(), [&] { return a->link->connected(kB) && b->link->connected(kA); }));
  }
};

LINK_TEST("a link connects both ways and carries frames unchanged") {
  Pair<Rig> pair;
  pair.join();
  CHECK(pair.a->sink.changes.size() == 1);
  auto there = make_frame(*pair.a, *pair.b, MessageClass::kDecode, 0x123456789ABCull, 14336, FrameType::kAsk);
  there.header.epoch = runtime::Epoch(77);
  there.header.remaining_us = 123456;
  there.header.credit_slots = 12;
  const auto sent = there;
  REQUIRE(pair.a->link->send(kB, std::move(there)).ok());
  REQUIRE(pair.b->link->send(kA, make_frame(*pair.b, *pair.a, MessageClass::kSystem, 2)).ok());
  REQUIRE(turn_until(pair.nodes(), [&] { return !pair.a->sink.frames.empty() && !pair.b->sink.frames.empty(); }));
  const auto& got = pair.b->sink.frames[0];
  CHECK(got.from == kA);
  CHECK(got.frame.header.correlation == sent.header.correlation);
  CHECK(got.frame.header.type == FrameType::kAsk);
  CHECK(got.frame.header.message_class == MessageClass::kDecode);
  CHECK(got.frame.header.kind == sent.header.kind);
  CHECK(got.frame.header.epoch == sent.header.epoch);
  CHECK(got.frame.header.remaining_us == 123456);
  CHECK(got.frame.header.credit_slots == 12);
  CHECK(got.frame.header.source_actor == sent.header.source_actor);
  CHECK(got.frame.header.target_actor == sent.header.target_actor);
  CHECK(got.frame.metadata == sent.metadata);
  CHECK(same_bytes(got.frame.payload, sent.payload));
  CHECK(pair.a->sink.frames[0].frame.payload.empty());
  CHECK(pair.a->counters().fault_sum() == 0);
  CHECK(pair.b->counters().fault_sum() == 0);
}

LINK_TEST("frames sent before the wire is up are queued and delivered") {
  Pair<Rig> pair;
  REQUIRE(connect(*pair.a, *pair.b).ok());
  for (std::uint64_t i = 0; i < 10; ++i)
    REQUIRE(pair.a->link->send(kB, make_frame(*pair.a, *pair.b, MessageClass::kBulk, i, 100)).ok());
  REQUIRE(turn_until(pair.nodes(), [&] { return pair.b->sink.frames.size() == 10; }));
  for (std::uint64_t i = 0; i < 10; ++i) CHECK(pair.b->sink.frames[i].frame.header.correlation == i);
}

LINK_TEST("each class keeps its order, whatever the sizes") {
  Pair<Rig> pair({.queue_bytes = std::size_t{256} << 20});
  pair.join();
  // Across the thresholds of short, copied, zero-copy and rendezvous sends.
  constexpr std::array<std::size_t, 8> kSizes = {0, 40, 900, 14336, 70000, 300000, 1000, 1u << 20};
  constexpr std::uint64_t kPerClass = 60;
  for (std::uint64_t i = 0; i < kPerClass; ++i) {
    for (int c = 0; c < runtime::kMessageClassCount; ++c) {
      const auto size = kSizes[(i * 5 + static_cast<std::uint64_t>(c) * 3) % kSizes.size()];
      REQUIRE(pair.a->link->send(kB, make_frame(*pair.a, *pair.b, static_cast<MessageClass>(c), i, size)).ok());
    }
  }
  REQUIRE(
      turn_until(pair.nodes(), [&] { return pair.b->sink.frames.size() == kPerClass * runtime::kMessageClassCount; }));
  std::array<std::uint64_t, runtime::kMessageClassCount> next{};
  bool bytes_equal = true;
  for (const auto& received : pair.b->sink.frames) {
    const auto& header = received.frame.header;
    CHECK(header.correlation == next[static_cast<std::size_t>(header.message_class)]++);
    const auto twin =
        make_frame(*pair.a, *pair.b, header.message_class, header.correlation, received.frame.payload.size());
    bytes_equal = bytes_equal && same_bytes(twin.payload, received.frame.payload);
  }
  CHECK(bytes_equal);
}

LINK_TEST("the largest head and payloads of several megabytes arrive whole, with and without checksum") {
  for (const bool crc : {false, true}) {
    Pair<Rig> pair({.payload_crc = crc}, {.payload_crc = crc});
    pair.join();
    auto widest = make_frame(*pair.a, *pair.b, MessageClass::kDecode, 1, 14336);
    widest.metadata.assign(runtime::kMaxMetadataBytes, std::byte{0x5A});
    REQUIRE(pair.a->link->send(kB, widest).ok());
    auto largest = make_frame(*pair.a, *pair.b, MessageClass::kBulk, 2, 8u << 20);
    REQUIRE(pair.a->link->send(kB, largest).ok());
    auto odd = make_frame(*pair.a, *pair.b, MessageClass::kBulk, 3, (3u << 20) + 17);
    REQUIRE(pair.a->link->send(kB, odd).ok());
    REQUIRE(turn_until(pair.nodes(), [&] { return pair.b->sink.frames.size() == 3; }));
    for (const auto& received : pair.b->sink.frames) {
      const auto& twin = received.frame.header.correlation == 1   ? widest
                         : received.frame.header.correlation == 2 ? largest
                                                                  : odd;
      CHECK(received.frame.metadata == twin.metadata);
      CHECK(same_bytes(received.frame.payload, twin.payload));
    }
    CHECK(pair.b->counters().fault_sum() == 0);
  }
}

LINK_TEST("metadata or payload beyond a frame is refused at the sender") {
  Pair<Rig> pair;
  pair.join();
  auto frame = make_frame(*pair.a, *pair.b, MessageClass::kDecode, 1);
  frame.metadata.assign(runtime::kMaxMetadataBytes + 1, std::byte{1});
  const auto status = pair.a->link->send(kB, std::move(frame));
  REQUIRE(!status.ok());
  CHECK(status.error().kind == runtime::ErrorKind::kExhausted);
}

LINK_TEST("a full queue says exhausted, and what was accepted arrives") {
  Pair<Rig> pair({.queue_frames = 32});
  pair.join();
  std::uint64_t accepted = 0;
  runtime::Status status = runtime::done();
  // The receiver does not turn: the wire's own buffers fill first, then ours.
  while (accepted < 20000) {
    status = pair.a->link->send(kB, make_frame(*pair.a, *pair.b, MessageClass::kBulk, accepted, 60000));
    if (!status.ok()) break;
    ++accepted;
  }
  REQUIRE(!status.ok());
  CHECK(status.error().kind == runtime::ErrorKind::kExhausted);
  CHECK(accepted >= 32);
  // Another class still has its own queue.
  CHECK(pair.a->link->send(kB, make_frame(*pair.a, *pair.b, MessageClass::kSystem, 1)).ok());
  REQUIRE(turn_until(pair.nodes(), [&] { return pair.b->sink.frames.size() == accepted + 1; }));
  std::uint64_t next = 0;
  for (const auto& received : pair.b->sink.frames) {
    if (received.frame.header.message_class == MessageClass::kBulk) CHECK(received.frame.header.correlation == next++);
  }
  CHECK(pair.a->link->send(kB, make_frame(*pair.a, *pair.b, MessageClass::kBulk, 1)).ok());
}

LINK_TEST("sending without a connection is peer_down") {
  Pair<Rig> pair;
  const auto status = pair.a->link->send(kB, make_frame(*pair.a, *pair.b, MessageClass::kBulk, 1));
  REQUIRE(!status.ok());
  CHECK(status.error().kind == runtime::ErrorKind::kPeerDown);
  CHECK(!pair.a->link->connected(kB));
}

LINK_TEST("a peer that goes is told once") {
  Pair<Rig> pair;
  pair.join();
  pair.b.reset();
  REQUIRE(turn_until({pair.a.get()}, [&] { return pair.a->sink.lost(kB) > 0; }));
  CHECK(!pair.a->link->connected(kB));
  turn_for({pair.a.get()}, std::chrono::milliseconds(100));
  CHECK(pair.a->sink.lost(kB) == 1);
  Frame frame;
  frame.header.source_node = kA;
  CHECK(!pair.a->link->send(kB, frame).ok());
  pair.a->link->disconnect(kB);
}

LINK_TEST("a peer that disconnects is noticed, and may come again") {
  Pair<Rig> pair;
  pair.join();
  pair.b->link->disconnect(kA);
  REQUIRE(turn_until(pair.nodes(), [&] { return pair.a->sink.lost(kB) == 1; }));
  CHECK(!pair.a->link->connected(kB));
  CHECK(!pair.b->link->connected(kA));
  CHECK(pair.b->sink.lost(kA) == 0);  // its own wish is no news
  pair.join();
  REQUIRE(pair.a->link->send(kB, make_frame(*pair.a, *pair.b, MessageClass::kDecode, 9, 14336)).ok());
  REQUIRE(turn_until(pair.nodes(), [&] { return pair.b->sink.frames.size() == 1; }));
}

LINK_TEST("a new incarnation replaces the old one") {
  Pair<Rig> pair;
  pair.join();
  auto again = pair.rig.make(kB, kSecond);  // the old one still lives, as after a pause
  REQUIRE(connect(*pair.a, *again).ok());
  REQUIRE(connect(*again, *pair.a).ok());
  const Nodes all = {pair.a.get(), pair.b.get(), again.get()};
  REQUIRE(turn_until(all, [&] { return pair.a->link->connected(kB) && again->link->connected(kA); }));
  REQUIRE(pair.a->link->send(kB, make_frame(*pair.a, *again, MessageClass::kDecode, 1, 5000)).ok());
  REQUIRE(turn_until(all, [&] { return again->sink.frames.size() == 1; }));
  CHECK(pair.b->sink.frames.empty());
  REQUIRE(again->link->send(kA, make_frame(*again, *pair.a, MessageClass::kDecode, 2, 5000)).ok());
  REQUIRE(turn_until(all, [&] { return pair.a->sink.frames.size() == 1; }));
  // The old life is no longer heard, whether or not it has noticed.
  (void)pair.b->link->send(kA, make_frame(*pair.b, *pair.a, MessageClass::kDecode, 3, 5000));
  turn_for(all, std::chrono::milliseconds(100));
  CHECK(pair.a->sink.frames.size() == 1);
  CHECK(pair.a->sink.lost(kB) == 0);
}

LINK_TEST("a node that joins after it connected is heard under its incarnation") {
  Rig rig;
  auto a = rig.make(kA, Incarnation(0));
  auto b = rig.make(kB, kFirst);
  const Nodes both = {a.get(), b.get()};
  REQUIRE(connect(*a, *b).ok());
  REQUIRE(a->link->send(kB, make_frame(*a, *b, MessageClass::kSystem, 1)).ok());
  REQUIRE(turn_until(both, [&] { return b->sink.frames.size() == 1; }));
  a->set_incarnation(kSecond);
  REQUIRE(a->link->send(kB, make_frame(*a, *b, MessageClass::kSystem, 2)).ok());
  REQUIRE(turn_until(both, [&] { return b->sink.frames.size() == 2; }));
  CHECK(b->sink.frames[1].frame.header.source_incarnation == kSecond);
  CHECK(b->counters().fault_sum() == 0);
  turn_for(both, std::chrono::milliseconds(20));
  CHECK(a->sink.changes.size() == 1);
}

LINK_TEST("a wrong token is refused in words and nothing behind it is delivered") {
  Pair<Rig> pair;
  auto token = pair.b->link->token();
  token[3] ^= std::byte{1};
  REQUIRE(pair.a->link->connect(kB, kFirst, pair.b->link->address(), token).ok());
  for (std::uint64_t i = 0; i < 5; ++i)
    (void)pair.a->link->send(kB, make_frame(*pair.a, *pair.b, MessageClass::kSystem, i));
  REQUIRE(turn_until(pair.nodes(), [&] { return pair.a->sink.lost(kB) == 1; }));
  CHECK(pair.a->sink.changes[0].why.find("token") != std::string::npos);
  CHECK(pair.b->fault(FrameFault::kWrongToken) >= 1);
  turn_for(pair.nodes(), std::chrono::milliseconds(50));
  CHECK(pair.b->sink.frames.empty());
  CHECK(!pair.a->link->connected(kB));
}

LINK_TEST("a frame that names another source than its connection is dropped and counted") {
  Pair<Rig> pair;
  pair.join();
  auto frame = make_frame(*pair.a, *pair.b, MessageClass::kSystem, 1);
  frame.header.source_node = NodeId(99);
  REQUIRE(pair.a->link->send(kB, frame).ok());
  frame.header.source_node = kA;
  frame.header.source_incarnation = Incarnation(kFirst.value - 1);
  REQUIRE(pair.a->link->send(kB, frame).ok());
  REQUIRE(turn_until(pair.nodes(), [&] { return pair.b->fault(FrameFault::kWrongSource) == 2; }));
  CHECK(pair.b->sink.frames.empty());
}

// Between good frames, one whose bytes are changed on the way.
template <class Rig>
struct Tampered {
  bool armed = false;
  std::function<void(std::vector<std::byte>&, std::vector<std::byte>&)> change;
  Pair<Rig> pair;
  explicit Tampered(bool crc = true)
      : pair({.payload_crc = crc, .tamper = [this](auto& head, auto& payload) {
                if (std::exchange(armed, false)) change(head, payload);
              }}) {
    pair.join();
  }
  void send(std::uint64_t number, FrameType type, std::size_t payload_bytes) {
    // What is behind the damage may find the connection ended.
    (void)pair.a->link->send(kB, make_frame(*pair.a, *pair.b, MessageClass::kDecode, number, payload_bytes, type));
  }

  // A damaged frame ends its connection, each way, and both sides hear of it once: nothing behind it is
  // delivered, and the next connection is a good one.
  void check_ends(FrameFault fault, FrameType type, std::size_t payload_bytes) {
    send(40, FrameType::kTell, payload_bytes);
    REQUIRE(turn_until(pair.nodes(), [&] { return pair.b->sink.frames.size() == 1; }));
    armed = true;
    send(41, type, payload_bytes);
    send(42, FrameType::kTell, 100);
    REQUIRE(turn_until(pair.nodes(), [&] { return pair.a->sink.lost(kB) == 1 && pair.b->sink.lost(kA) == 1; }));
    CHECK(pair.a->sink.changes.back().why.find("damaged") != std::string::npos);
    CHECK(pair.b->sink.changes.back().why.find("damaged") != std::string::npos);
    CHECK_FALSE(pair.a->link->connected(kB));
    CHECK_FALSE(pair.b->link->connected(kA));
    CHECK_FALSE(pair.a->link->send(kB, make_frame(*pair.a, *pair.b, MessageClass::kDecode, 43)).ok());
    turn_for(pair.nodes(), std::chrono::milliseconds(20));
    CHECK(pair.b->fault(fault) == 1);
    CHECK(pair.b->counters().fault_sum() == 1 + pair.b->fault(FrameFault::kNoHello));  // those behind it
    REQUIRE(pair.b->sink.frames.size() == 1);
    CHECK(pair.b->sink.frames[0].frame.header.correlation == 40);
    CHECK(pair.a->sink.frames.empty());
    pair.join();
    send(44, FrameType::kTell, payload_bytes);
    REQUIRE(turn_until(pair.nodes(), [&] { return pair.b->sink.frames.size() == 2; }));
    CHECK(pair.b->sink.frames[1].frame.header.correlation == 44);
    CHECK(pair.a->sink.lost(kB) == 1);
    CHECK(pair.b->sink.lost(kA) == 1);
  }
};

LINK_TEST("a damaged head is counted by reason, and ends its connection") {
  struct Case {
    FrameFault fault;
    std::function<void(std::vector<std::byte>&)> damage;
  };
  const std::array cases = {
      Case{FrameFault::kTruncated, [](auto& head) { head.resize(40); }},
      Case{FrameFault::kTruncated, [](auto& head) { head.resize(70); }},
      Case{FrameFault::kWrongMagic, [](auto& head) { head[0] ^= std::byte{1}; }},
      Case{FrameFault::kWrongVersion, [](auto& head) { head[2] = std::byte{9}; }},
      Case{FrameFault::kWrongHead, [](auto& head) { head[48] ^= std::byte{0x10}; }},
      Case{FrameFault::kWrongHead, [](auto& head) { head[80] ^= std::byte{0x10}; }},
      Case{FrameFault::kWrongHead, [](auto& head) { head.push_back(std::byte{0}); }},
  };
  for (const auto& c : cases) {
    CAPTURE(name(c.fault));
    Tampered<Rig> t;
    t.change = [&](auto& head, auto&) { c.damage(head); };
    t.check_ends(c.fault, FrameType::kAsk, 200);
  }
}

LINK_TEST("a damaged payload is counted, and ends its connection") {
  for (const FrameType type : {FrameType::kAsk, FrameType::kReply, FrameType::kTell}) {
    for (const std::size_t bytes : {200u, 14336u, 400000u}) {
      CAPTURE(bytes);
      Tampered<Rig> t;
      t.change = [](auto&, auto& payload) { payload[payload.size() / 2] ^= std::byte{4}; };
      t.check_ends(FrameFault::kPayloadChecksum, type, bytes);
    }
  }
}

LINK_TEST("a payload of another length than announced is counted, and ends its connection") {
  for (const int by : {-3, 5}) {
    Tampered<Rig> t;
    t.change = [&](auto&, auto& payload) {
      payload.resize(static_cast<std::size_t>(static_cast<int>(payload.size()) + by));
    };
    t.check_ends(FrameFault::kPayloadLength, FrameType::kAsk, 3000);
  }
}

LINK_TEST("damage on a connection that has none back ends it, and its sender hears of it") {
  bool armed = false;
  Pair<Rig> pair({.payload_crc = true, .tamper = [&](auto& head, auto&) {
                    if (std::exchange(armed, false)) head[48] ^= std::byte{0x10};
                  }});
  REQUIRE(connect(*pair.a, *pair.b).ok());
  REQUIRE(turn_until(pair.nodes(), [&] { return pair.a->link->connected(kB); }));
  armed = true;
  (void)pair.a->link->send(kB, make_frame(*pair.a, *pair.b, MessageClass::kDecode, 1));
  // As a heartbeat does: a wire may have nobody to tell until something else comes.
  REQUIRE(turn_until(pair.nodes(), [&] {
    if (pair.a->sink.lost(kB) == 0) {
      (void)pair.a->link->send(kB, make_frame(*pair.a, *pair.b, MessageClass::kSystem, 2));
    }
    return pair.a->sink.lost(kB) == 1;
  }));
  CHECK(pair.b->sink.frames.empty());
  CHECK(pair.b->sink.changes.empty());
  pair.join();
}

LINK_TEST("a damaged hello connects nobody") {
  for (const bool version : {false, true}) {
    Pair<Rig> pair({.tamper = [version](auto& head, auto&) { head[version ? 4 : 12] ^= std::byte{0x20}; }});
    REQUIRE(connect(*pair.a, *pair.b).ok());
    REQUIRE(turn_until(pair.nodes(), [&] { return pair.b->fault(FrameFault::kWrongHello) >= 1; }));
    CHECK(!pair.a->link->connected(kB));
    // Another version is told so; damage has nobody to answer.
    if (version) {
      REQUIRE(turn_until(pair.nodes(), [&] { return pair.a->sink.lost(kB) == 1; }));
      CHECK(pair.a->sink.changes[0].why.find("version") != std::string::npos);
    }
  }
}

LINK_TEST("an address that is none is refused") {
  Pair<Rig> pair;
  runtime::LinkAddress address;
  CHECK(!pair.a->link->connect(kB, kFirst, address, pair.b->link->token()).ok());
  address = pair.b->link->address();
  address.bytes.pop_back();
  CHECK(!pair.a->link->connect(kB, kFirst, address, pair.b->link->token()).ok());
}

LINK_TEST("a sleeping side is woken by a frame") {
  Pair<Rig> pair;
  pair.join();
  turn_for(pair.nodes(), std::chrono::milliseconds(20));
  auto* source = pair.b->sources.front();
  REQUIRE(source->fd() >= 0);
  // Let it go to sleep as a loop does.
  int tries = 0;
  while (!source->arm() && tries++ < 1000) pair.b->poll();
  REQUIRE(tries < 1000);
  REQUIRE(pair.a->link->send(kB, make_frame(*pair.a, *pair.b, MessageClass::kDecode, 1, 14336)).ok());
  bool woken = false;
  for (int i = 0; i < 400 && !woken; ++i) {
    pair.a->poll();  // a wire may still want its sender's turn
    pollfd waiting{source->fd(), POLLIN, 0};
    woken = ::poll(&waiting, 1, 5) == 1;
  }
  CHECK(woken);
  REQUIRE(turn_until(pair.nodes(), [&] { return pair.b->sink.frames.size() == 1; }));
}

LINK_TEST("answers given from within the sink keep their order") {
  Pair<Rig> pair;
  pair.join();
  pair.b->sink.react = [&](const Received& received) {
    REQUIRE(pair.b->link
                ->send(received.from, make_frame(*pair.b, *pair.a, received.frame.header.message_class,
                                                 received.frame.header.correlation, received.frame.payload.size()))
                .ok());
  };
  for (std::uint64_t i = 0; i < 200; ++i) {
    REQUIRE(
        pair.a->link->send(kB, make_frame(*pair.a, *pair.b, MessageClass::kDecode, i, i % 3 == 0 ? 80000 : 500)).ok());
  }
  REQUIRE(turn_until(pair.nodes(), [&] { return pair.a->sink.frames.size() == 200; }));
  for (std::uint64_t i = 0; i < 200; ++i) CHECK(pair.a->sink.frames[i].frame.header.correlation == i);
}

}  // namespace
}  // namespace consort::tests
