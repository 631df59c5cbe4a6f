// SPDX-License-Identifier: Apache-2.0
#include "transport/shaped_link.hpp"

#include "link_rig.hpp"
#include "transport/shaped_wire.hpp"

namespace consort::tests {
namespace {

using runtime::Instant;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using transport::LinkShape;
using transport::ShapedLimits;
using transport::ShapedWire;

constexpr NodeId kA{11};
constexpr NodeId kB{22};

Frame frame_of(MessageClass message_class, std::uint64_t number, std::size_t bytes) {
  Frame frame;
  frame.header.message_class = message_class;
  frame.header.correlation = number;
  frame.payload = Buffer::allocate(bytes);
  return frame;
}
Instant at(microseconds time) { return Instant(time); }

TEST_CASE("a frame arrives after its delay and no earlier") {
  ShapedWire wire({milliseconds(2), 0});
  REQUIRE(wire.put(kB, frame_of(MessageClass::kDecode, 1, 1000), {}, at(microseconds(0))));
  CHECK(wire.next() == at(milliseconds(2)));
  CHECK(!wire.take(at(microseconds(1999))));
  REQUIRE(wire.take(at(microseconds(2000))));
  CHECK(wire.held() == 0);
  CHECK(!wire.next());
}

TEST_CASE("a rate spreads frames as a card would") {
  ShapedWire wire({microseconds(100), 1'000'000});  // a byte a microsecond
  for (std::uint64_t i = 0; i < 3; ++i) {
    REQUIRE(wire.put(kB, frame_of(MessageClass::kDecode, i, 872), {}, at(microseconds(0))));  // 1,000 with both headers
  }
  int taken = 0;
  for (int us = 0; us <= 3100; us += 10) {
    while (wire.take(at(microseconds(us)))) ++taken;
    CHECK(taken == (us >= 3100 ? 3 : us >= 2100 ? 2 : us >= 1100 ? 1 : 0));
  }
}

TEST_CASE("an urgent frame overtakes a large one between its chunks") {
  ShapedWire wire({microseconds(0), 1'000'000'000});
  REQUIRE(wire.put(kB, frame_of(MessageClass::kBulk, 1, 8u << 20), {}, at(microseconds(0))));
  REQUIRE(wire.put(kB, frame_of(MessageClass::kSystem, 2, 100), {}, at(microseconds(10))));
  const auto first = wire.take(at(microseconds(200)));  // a chunk of 64 KiB takes 66 us, all of it 8.4 ms
  REQUIRE(first);
  CHECK(first->frame.header.correlation == 2);
  CHECK(!wire.take(at(microseconds(8000))));
  CHECK(wire.take(at(microseconds(8500))));
}

TEST_CASE("a stalled peer's frames wait in order while others pass") {
  ShapedWire wire({microseconds(10), 0});
  wire.stall(kB, true);
  for (std::uint64_t i = 0; i < 3; ++i)
    REQUIRE(wire.put(kB, frame_of(MessageClass::kDecode, i, 10), {}, at(microseconds(0))));
  REQUIRE(wire.put(kA, frame_of(MessageClass::kDecode, 9, 10), {}, at(microseconds(0))));
  auto parcel = wire.take(at(microseconds(20)));
  REQUIRE(parcel);
  CHECK(parcel->peer == kA);
  CHECK(!wire.take(at(microseconds(30))));
  REQUIRE(wire.put(kB, frame_of(MessageClass::kDecode, 3, 10), {}, at(microseconds(30))));
  wire.stall(kB, false);
  for (std::uint64_t i = 0; i < 4; ++i) {
    parcel = wire.take(at(microseconds(50)));
    REQUIRE(parcel);
    CHECK(parcel->frame.header.correlation == i);
  }
}

TEST_CASE("what is dropped with its peer never arrives, even from within the card") {
  ShapedWire wire({microseconds(10), 1'000'000});
  for (std::uint64_t i = 0; i < 3; ++i)
    REQUIRE(wire.put(kB, frame_of(MessageClass::kDecode, i, 872), {}, at(microseconds(0))));
  REQUIRE(wire.put(kA, frame_of(MessageClass::kDecode, 9, 872), {}, at(microseconds(0))));
  wire.drop(kB);
  REQUIRE(wire.put(kB, frame_of(MessageClass::kDecode, 5, 872), {}, at(microseconds(0))));
  std::vector<std::uint64_t> arrived;
  for (int us = 0; us < 5000; us += 100) {
    while (auto parcel = wire.take(at(microseconds(us)))) arrived.push_back(parcel->frame.header.correlation);
  }
  CHECK(arrived == std::vector<std::uint64_t>{9, 5});
  CHECK(wire.held() == 0);
}

TEST_CASE("a shaped link slows both ways, and says what it holds") {
  ShapedRig rig;
  rig.shape = {milliseconds(20), 0};
  auto a = rig.make(kA, Incarnation(1));
  auto b = rig.loopback.make(kB, Incarnation(1));  // only one side is shaped
  const Nodes both = {a.get(), b.get()};
  REQUIRE(connect(*a, *b).ok());
  REQUIRE(connect(*b, *a).ok());
  REQUIRE(turn_until(both, [&] { return a->link->connected(kB) && b->link->connected(kA); }));
  b->sink.react = [&](const Received&) {
    REQUIRE(b->link->send(kA, make_frame(*b, *a, MessageClass::kDecode, 2, 100)).ok());
  };
  const auto begin = std::chrono::steady_clock::now();
  REQUIRE(a->link->send(kB, make_frame(*a, *b, MessageClass::kDecode, 1, 100)).ok());
  REQUIRE(turn_until(both, [&] { return !a->sink.frames.empty(); }));
  CHECK(std::chrono::steady_clock::now() - begin >= milliseconds(40));
  auto& shaped = dynamic_cast<transport::ShapedLink&>(*a->link);
  CHECK(shaped.held_frames() == 0);

  shaped.stall(kB, true);
  REQUIRE(a->link->send(kB, make_frame(*a, *b, MessageClass::kDecode, 3, 100)).ok());
  turn_for(both, milliseconds(60));
  CHECK(b->sink.frames.size() == 1);
  shaped.stall(kB, false);
  REQUIRE(turn_until(both, [&] { return a->sink.frames.size() == 2; }));

  shaped.cut(kB);
  CHECK(a->sink.lost(kB) == 1);
  CHECK(!a->link->send(kB, make_frame(*a, *b, MessageClass::kDecode, 4)).ok());
  REQUIRE(turn_until(both, [&] { return b->sink.lost(kA) == 1; }));
}

}  // namespace
}  // namespace consort::tests
