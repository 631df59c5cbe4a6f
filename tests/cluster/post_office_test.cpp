// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include "cluster/post_office.hpp"

#include <optional>
#include <vector>

#include "loop_pair.hpp"
#include "support/test.hpp"

namespace consort::tests {
struct Answer {
  static constexpr runtime::MessageKind kKind = 0x7E01;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kDecode;
  std::uint32_t number = 0;
};
// `bytes` of payload; the worker answers after as many more questions as `hold` says, or never.
struct Question {
  static constexpr runtime::MessageKind kKind = 0x7E02;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kDecode;
  using Reply = Answer;
  std::uint32_t number = 0;
  std::uint32_t bytes = 0;
  bool hold = false;
};
struct Note {
  static constexpr runtime::MessageKind kKind = 0x7E03;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kBulk;
  std::uint32_t number = 0;
};
}  // namespace consort::tests

namespace consort::runtime {
inline WireMessage number_message(std::uint32_t number, std::uint32_t more = 0, std::size_t payload = 0) {
  WireMessage wire;
  for (const auto value : {number, more}) {
    for (int shift = 0; shift < 32; shift += 8) wire.metadata.push_back(static_cast<std::byte>(value >> shift));
  }
  if (payload != 0) wire.payload = Buffer::allocate(payload);
  return wire;
}
inline std::uint32_t number_at(std::span<const std::byte> bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value |= static_cast<std::uint32_t>(bytes[at + i]) << (8 * i);
  return value;
}
template <>
struct Codec<tests::Answer> {
  static Outcome<WireMessage> encode(const tests::Answer& m) { return number_message(m.number); }
  static Outcome<tests::Answer> decode(std::span<const std::byte> b, Buffer) { return tests::Answer{number_at(b, 0)}; }
};
template <>
struct Codec<tests::Question> {
  static Outcome<WireMessage> encode(const tests::Question& m) { return number_message(m.number, m.hold, m.bytes); }
  static Outcome<tests::Question> decode(std::span<const std::byte> b, Buffer p) {
    return tests::Question{number_at(b, 0), static_cast<std::uint32_t>(p.size()), number_at(b, 4) != 0};
  }
};
template <>
struct Codec<tests::Note> {
  static Outcome<WireMessage> encode(const tests::Note& m) { return number_message(m.number); }
  static Outcome<tests::Note> decode(std::span<const std::byte> b, Buffer) { return tests::Note{number_at(b, 0)}; }
};
}  // namespace consort::runtime

namespace {

using namespace consort::cluster;
using namespace consort::runtime;
using namespace consort::tests;
using namespace std::chrono_literals;

using DeskProtocol = Protocol<Ask<Question>, Tell<Note>>;

// Answers questions at once, or keeps them.
class Desk final : public ActorOf<Desk, DeskProtocol> {
 public:
  explicit Desk(Desk*& self) { self = this; }
  void on(Question question, ReplyTo<Answer> reply) {
    ++questions;
    if (question.hold) {
      kept.push_back(std::move(reply));
    } else {
      reply.send({question.number});
    }
  }
  void on(Note note) { notes.push_back(note.number); }
  int questions = 0;
  std::vector<ReplyTo<Answer>> kept;
  std::vector<std::uint32_t> notes;
};

// Asks what the test tells it to.
class Asker final : public ActorOf<Asker, Protocol<>> {
 public:
  explicit Asker(Asker*& self) { self = this; }
  using Actor::self;
  void send(RefTo<DeskProtocol> to, Question question, Duration deadline = 1s) {
    ask(to, question, deadline).then([this](Outcome<Answer> answer) {
      if (answer.ok()) {
        ++answered;
      } else {
        errors.push_back(answer.error());
      }
    });
  }
  void note(RefTo<DeskProtocol> to, std::uint32_t number) { tell(to, Note{number}); }
  int answered = 0;
  std::vector<Error> errors;
};

class Watcher final : public ActorOf<Watcher, Protocol<>> {
 public:
  Watcher(Watcher*& self, ActorRef watched) : watched_(watched) { self = this; }
  std::string reason;

 private:
  void on_start() override {
    monitor(watched_, [this](Down down) { reason = down.reason.text; });
  }
  const ActorRef watched_;
};

struct Pair {
  explicit Pair(std::uint32_t b_incarnation = 7)
      : a(mesh, clock, NodeId{1}, Incarnation{5}, {.payload_crc = true, .tamper = [this](auto& head, auto& payload) {
                                                     if (head.size() < kFrameHeaderBytes)
                                                       return;  // a hello: the heartbeats' business
                                                     if (!std::exchange(damage, false)) return;
                                                     auto& hit = payload.empty() ? head : payload;
                                                     hit[hit.size() / 2] ^= std::byte{8};
                                                   }}) {
    b = std::make_unique<LoopNode>(mesh, clock, NodeId{2}, Incarnation{b_incarnation});
    a.loop.spawn_root(20, 0, [this] { return std::make_unique<Asker>(asker); });
    b->loop.spawn_root(21, 0, [this] { return std::make_unique<Desk>(desk); });
    a.connect(*b);
    b->connect(a);
    run();
  }
  void run(Duration time = 0ms) {
    const Instant end = clock.time + time;
    for (;;) {
      while (a.loop.turn() | (b ? b->loop.turn() : false)) {
      }
      if (clock.time >= end) return;
      clock.time += 10ms;
    }
  }
  RefTo<DeskProtocol> desk_ref(std::uint32_t incarnation = 7) const {
    return {{NodeId{2}, Incarnation{incarnation}, ActorId{21, 0, 0}}};
  }
  // All slots are where they belong, on both sides.
  void check_rest() {
    run(600ms);
    for (const auto c :
         {MessageClass::kSystem, MessageClass::kDecode, MessageClass::kBulk, MessageClass::kBackground}) {
      CHECK(a.post->slots_out(c) == 0);
      if (b) CHECK(b->post->slots_out(c) == 0);
    }
  }

  std::shared_ptr<consort::transport::LoopbackMesh> mesh = consort::transport::make_loopback_mesh();
  ManualClock clock;
  Asker* asker = nullptr;
  Desk* desk = nullptr;
  bool damage = false;  // the next frame of node 1
  LoopNode a;
  std::unique_ptr<LoopNode> b;
};

TEST_CASE("an ask crosses to another node and its answer comes back") {
  Pair pair;
  pair.asker->send(pair.desk_ref(), {1, 0, false});
  pair.run();
  CHECK(pair.asker->answered == 1);
  CHECK(pair.desk->questions == 1);
  pair.check_rest();
}

TEST_CASE("beyond the window an asker gets exhausted at once, and answers make room") {
  Pair pair;
  const auto window = kWindowSlots[static_cast<std::size_t>(MessageClass::kDecode)];
  for (std::uint32_t i = 0; i < window + 10; ++i) pair.asker->send(pair.desk_ref(), {i, 0, true});
  pair.run();
  CHECK(pair.desk->questions == static_cast<int>(window));
  REQUIRE(pair.asker->errors.size() == 10);
  CHECK(pair.asker->errors[0].kind == ErrorKind::kExhausted);
  CHECK(pair.a.post->credit(NodeId{2}, MessageClass::kDecode) == 0);
  for (std::uint32_t i = 0; i < 5; ++i) pair.desk->kept[i].send({i});
  pair.run();
  CHECK(pair.asker->answered == 5);
  CHECK(pair.a.post->credit(NodeId{2}, MessageClass::kDecode) == 5);
  for (std::uint32_t i = 0; i < 6; ++i) pair.asker->send(pair.desk_ref(), {i, 0, true});
  pair.run();
  CHECK(pair.asker->errors.size() == 11);
  pair.desk->kept.clear();  // answered with cancelled
  pair.check_rest();
}

TEST_CASE("large payloads take more slots, and the largest is never more than the window") {
  Pair pair;
  pair.asker->send(pair.desk_ref(), {1, 3 * kSlotBytes + 1, true});
  pair.run();
  const auto window = kWindowSlots[static_cast<std::size_t>(MessageClass::kDecode)];
  CHECK(pair.a.post->credit(NodeId{2}, MessageClass::kDecode) == window - 4);
  pair.desk->kept.clear();
  pair.check_rest();
}

TEST_CASE("tells get their slots back without an answer to travel on") {
  Pair pair;
  for (std::uint32_t i = 0; i < 1000; ++i) pair.asker->note(pair.desk_ref(), i);
  pair.run();
  REQUIRE(pair.desk->notes.size() == 1000);
  for (std::uint32_t i = 0; i < 1000; ++i) CHECK(pair.desk->notes[i] == i);
  pair.check_rest();
  CHECK(pair.a.post->counters().credit_frames > 0);
}

TEST_CASE("a late answer gives its slots back all the same") {
  Pair pair;
  pair.asker->send(pair.desk_ref(), {1, 0, true}, 50ms);
  pair.run(200ms);
  REQUIRE(pair.asker->errors.size() == 1);
  CHECK(pair.asker->errors[0].kind == ErrorKind::kTimedOut);
  CHECK(pair.b->post->held(NodeId{1}, MessageClass::kDecode) == 1);
  pair.desk->kept[0].send({1});
  pair.check_rest();
}

TEST_CASE("a message to an earlier life bounces") {
  Pair pair;
  pair.asker->send(pair.desk_ref(6), {1, 0, false});
  pair.run();
  REQUIRE(pair.asker->errors.size() == 1);
  CHECK(pair.asker->errors[0].kind == ErrorKind::kStaleIncarnation);
  CHECK(pair.desk->questions == 0);
  CHECK(pair.b->post->counters().stale_target == 1);
  pair.check_rest();
}

TEST_CASE("an unknown actor answers no_actor and keeps no slot") {
  Pair pair;
  pair.asker->send({{NodeId{2}, Incarnation{7}, ActorId{99, 0, 0}}}, {1, 0, false});
  pair.run();
  REQUIRE(pair.asker->errors.size() == 1);
  CHECK(pair.asker->errors[0].kind == ErrorKind::kNoActor);
  pair.check_rest();
}

TEST_CASE("an ask past its deadline does not leave") {
  Pair pair;
  pair.asker->send(pair.desk_ref(), {1, 0, false}, -1ms);
  pair.run();
  REQUIRE(pair.asker->errors.size() == 1);
  CHECK(pair.asker->errors[0].kind == ErrorKind::kTimedOut);
  CHECK(pair.desk->questions == 0);
  pair.check_rest();
}

TEST_CASE("forgetting a life ends what was asked of it, once, and nothing of it is taken afterwards") {
  Pair pair;
  pair.asker->send(pair.desk_ref(), {1, 0, true});
  pair.run();
  CHECK(pair.a.post->forget(NodeId{2}, Incarnation{7}, "declared dead"));
  CHECK_FALSE(pair.a.post->forget(NodeId{2}, Incarnation{7}, "again"));
  pair.run();
  REQUIRE(pair.asker->errors.size() == 1);
  CHECK(pair.asker->errors[0].kind == ErrorKind::kPeerDown);
  CHECK(pair.asker->errors[0].text == "declared dead");
  CHECK(pair.a.post->is_dead(NodeId{2}, Incarnation{7}));
  CHECK_FALSE(pair.a.post->is_dead(NodeId{2}, Incarnation{8}));
  pair.desk->kept[0].send({1});
  pair.run();
  CHECK(pair.asker->answered == 0);
  pair.asker->send(pair.desk_ref(), {2, 0, false});
  pair.run();
  CHECK(pair.asker->errors.size() == 2);
  CHECK(pair.asker->errors[1].kind == ErrorKind::kPeerDown);
}

TEST_CASE("a client whose wire breaks hears that what it watched there is gone") {
  ManualClock clock;
  const auto mesh = consort::transport::make_loopback_mesh();
  LoopNode client(mesh, clock, NodeId{kFirstClientNode + 5}, Incarnation{1});
  auto node = std::make_unique<LoopNode>(mesh, clock, NodeId{2}, Incarnation{7});
  Desk* desk = nullptr;
  Watcher* watcher = nullptr;
  const auto desk_ref = node->loop.spawn_root(21, 0, [&] { return std::make_unique<Desk>(desk); });
  (void)client.post->connect(Plane::kControl, NodeId{2}, Incarnation{7}, node->control.address(),
                             node->control.token());
  const auto turn = [&] {
    for (int i = 0; i < 20; ++i) {
      client.loop.turn();
      if (node) node->loop.turn();
    }
  };
  turn();
  client.loop.spawn_root(20, 0, [&] { return std::make_unique<Watcher>(watcher, desk_ref); });
  turn();
  CHECK(watcher->reason == "");
  node.reset();
  turn();
  CHECK(watcher->reason.find("broke") != std::string::npos);
}

TEST_CASE("a frame of a life that is over is dropped, and its sender is told") {
  Pair pair;
  std::string told;
  pair.b->post->on_own_end([&](std::string_view why) { told = why; });
  // Node 1 buries node 2's life; node 2 does not know, and connects again.
  pair.a.post->expect(NodeId{2}, Incarnation{9});
  CHECK(pair.a.post->is_dead(NodeId{2}, Incarnation{7}));
  pair.run();
  pair.a.connect(*pair.b);
  pair.b->connect(pair.a);
  pair.run(50ms);
  Frame frame;
  frame.header.kind = 0x7E03;
  frame.header.source_node = NodeId{2};
  frame.header.source_incarnation = Incarnation{7};
  REQUIRE(pair.b->data.send(NodeId{1}, frame).ok());
  pair.run(50ms);
  CHECK(pair.a.post->counters().stale_source >= 1);
  CHECK(told.find("incarnation 7 of this node is over") != std::string::npos);
}

TEST_CASE("a wire that breaks ends what was asked over it, and credit is whole after it is made again") {
  Pair pair;
  for (std::uint32_t i = 0; i < 20; ++i) pair.asker->send(pair.desk_ref(), {i, 0, true});
  for (std::uint32_t i = 0; i < 7; ++i) pair.asker->note(pair.desk_ref(), i);
  pair.run();
  pair.b->post->disconnect(Plane::kData, NodeId{1});
  pair.run();
  REQUIRE(pair.asker->errors.size() == 20);
  CHECK(pair.asker->errors[0].kind == ErrorKind::kPeerDown);
  pair.desk->kept.clear();  // the answers find no wire
  pair.run();
  pair.b->connect(pair.a);
  pair.a.connect(*pair.b);
  pair.run();
  CHECK(pair.b->post->counters().credit_resets == 1);
  CHECK(pair.a.post->counters().credit_resets == 1);
  pair.asker->send(pair.desk_ref(), {1, 0, false});
  pair.run();
  CHECK(pair.asker->answered == 1);
  pair.check_rest();
}

TEST_CASE("a damaged frame ends what was asked, at once and both ways, and costs no slot") {
  for (const std::uint32_t bytes : {0u, 5000u}) {
    CAPTURE(bytes);
    Pair pair;
    pair.asker->send(pair.desk_ref(), {1, 0, true}, 60s);  // before the damage: taken, and its answer is under way
    pair.run();
    pair.damage = true;
    pair.asker->send(pair.desk_ref(), {2, bytes, false}, 60s);
    pair.asker->note(pair.desk_ref(), 3);
    pair.asker->send(pair.desk_ref(), {4, 0, false}, 60s);
    pair.run();
    CHECK(pair.desk->questions == 1);
    REQUIRE(pair.asker->errors.size() == 3);
    for (const auto& error : pair.asker->errors) CHECK(error.kind == ErrorKind::kPeerDown);
    pair.desk->kept.clear();
    pair.a.connect(*pair.b);
    pair.b->connect(pair.a);
    pair.run();
    pair.asker->send(pair.desk_ref(), {5, 0, false});
    pair.run();
    CHECK(pair.asker->answered == 1);
    pair.check_rest();
  }
}

TEST_CASE("a later life takes the place of an earlier one by its first frame") {
  Pair pair;
  pair.asker->send(pair.desk_ref(), {1, 0, true});
  pair.run();
  pair.b.reset();
  Desk* first = pair.desk;
  pair.b = std::make_unique<LoopNode>(pair.mesh, pair.clock, NodeId{2}, Incarnation{8});
  pair.b->loop.spawn_root(21, 0, [&] { return std::make_unique<Desk>(pair.desk); });
  pair.b->connect(pair.a);
  pair.run();
  CHECK(pair.desk != nullptr);
  (void)first;
  Frame frame;
  frame.header.kind = kCreditKind;
  frame.header.source_node = NodeId{2};
  frame.header.source_incarnation = Incarnation{8};
  REQUIRE(pair.b->data.send(NodeId{1}, frame).ok());
  pair.run();
  CHECK(pair.a.post->is_dead(NodeId{2}, Incarnation{7}));
  REQUIRE(pair.asker->errors.size() == 1);
  CHECK(pair.asker->errors[0].kind == ErrorKind::kPeerDown);
  pair.a.connect(*pair.b);
  pair.run();
  pair.asker->send(pair.desk_ref(8), {2, 0, false});
  pair.run();
  CHECK(pair.asker->answered == 1);
  pair.check_rest();
}

// Node 2 begins another life, of which node 1 hears at once; `life` 0: it does not know it yet. It has no wire back.
void begin_life(Pair& pair, std::uint32_t known, std::uint32_t life = 8) {
  pair.b.reset();
  pair.b = std::make_unique<LoopNode>(pair.mesh, pair.clock, NodeId{2}, Incarnation{known});
  pair.b->loop.spawn_root(21, 0, [&pair] { return std::make_unique<Desk>(pair.desk); });
  pair.run();
  (void)pair.a.post->connect(Plane::kData, NodeId{2}, Incarnation{life}, pair.b->data.address(), pair.b->data.token());
  pair.run();
  REQUIRE(pair.a.post->connected(Plane::kData, NodeId{2}));
  REQUIRE_FALSE(pair.b->post->connected(Plane::kData, NodeId{1}));
}

TEST_CASE("what is asked before there is a wire back waits for it, and keeps its order") {
  for (const std::uint32_t known : {8u, 0u}) {
    CAPTURE(known);
    Pair pair;
    begin_life(pair, known);
    for (std::uint32_t i = 0; i < 5; ++i) pair.asker->send(pair.desk_ref(8), {i, 0, false});
    for (std::uint32_t i = 0; i < 20; ++i) pair.asker->note(pair.desk_ref(8), i);
    pair.run(50ms);
    CHECK(pair.desk->questions == 0);
    CHECK(pair.b->post->counters().waited == 1 + 25);  // the reset that follows an earlier life's wire, too
    CHECK(pair.b->post->last_heard(NodeId{1}, Plane::kData).has_value());  // it lives, all the same
    if (known == 0) {
      pair.b->data.set_incarnation(Incarnation{8});
      pair.b->loop.set_incarnation(Incarnation{8});
      pair.run(50ms);
      CHECK(pair.desk->questions == 0);
    }
    pair.b->connect(pair.a);
    pair.run(50ms);
    CHECK(pair.asker->answered == 5);
    CHECK(pair.asker->errors.empty());
    REQUIRE(pair.desk->notes.size() == 20);
    for (std::uint32_t i = 0; i < 20; ++i) CHECK(pair.desk->notes[i] == i);
    CHECK(pair.a.post->counters().credit_resets == 0);
    pair.check_rest();
  }
}

TEST_CASE("what waits for the first wire back is fenced when it is taken") {
  Pair pair;
  begin_life(pair, 0);
  pair.asker->send(pair.desk_ref(8), {1, 0, false});
  pair.run(50ms);
  // It is given a later life than the one that was asked.
  pair.b->data.set_incarnation(Incarnation{9});
  pair.b->loop.set_incarnation(Incarnation{9});
  pair.b->connect(pair.a);
  pair.run(50ms);
  CHECK(pair.desk->questions == 0);
  CHECK(pair.b->post->counters().stale_target == 1);
  REQUIRE(pair.asker->errors.size() == 1);  // by the later life's first frame, or by its refusal
  pair.asker->send(pair.desk_ref(9), {2, 0, false});

  // And a sender whose life is over by then is not heard.
  Pair other;
  begin_life(other, 8);
  other.asker->send(other.desk_ref(8), {1, 0, false});
  other.run(50ms);
  other.b->post->expect(NodeId{1}, Incarnation{6});
  other.b->connect(other.a);
  other.run(50ms);
  CHECK(other.desk->questions == 0);
}

TEST_CASE("more than may wait for the first wire back is refused, and the wire's first word ends the asks") {
  Pair pair;
  begin_life(pair, 8);
  for (std::uint32_t i = 0; i < 300; ++i) pair.asker->send(pair.desk_ref(8), {i, 0, false}, 60s);
  pair.run(50ms);
  CHECK(pair.b->post->counters().waited == 256);
  CHECK(pair.desk->questions == 300);  // their answers find no wire
  CHECK(pair.asker->answered == 0);
  pair.b->connect(pair.a);
  pair.run(50ms);
  REQUIRE(pair.asker->errors.size() == 300);
  CHECK(pair.asker->errors[0].kind == ErrorKind::kPeerDown);
  pair.check_rest();
}

TEST_CASE("a wire back that fails makes nobody wait for their deadline") {
  Pair pair;
  begin_life(pair, 8);
  pair.asker->send(pair.desk_ref(8), {1, 0, false}, 60s);
  pair.run(50ms);
  auto token = pair.a.data.token();
  token[0] ^= std::byte{1};
  (void)pair.b->post->connect(Plane::kData, NodeId{1}, Incarnation{5}, pair.a.data.address(), token);
  pair.run(50ms);
  CHECK(pair.desk->questions == 1);
  CHECK(pair.asker->answered == 0);
  pair.b->connect(pair.a);
  pair.run(50ms);
  REQUIRE(pair.asker->errors.size() == 1);
  CHECK(pair.asker->errors[0].kind == ErrorKind::kPeerDown);
  pair.check_rest();
}

TEST_CASE("a wire that this side takes down ends what was asked over it") {
  Pair pair;
  pair.asker->send(pair.desk_ref(), {1, 0, true}, 60s);
  pair.run();
  pair.a.post->disconnect(Plane::kControl, NodeId{2});  // another plane
  pair.run();
  CHECK(pair.asker->errors.empty());
  pair.a.post->disconnect(Plane::kData, NodeId{2});
  pair.run();
  REQUIRE(pair.asker->errors.size() == 1);
  CHECK(pair.asker->errors[0].kind == ErrorKind::kPeerDown);
  pair.desk->kept.clear();
  pair.a.connect(*pair.b);
  pair.b->connect(pair.a);
  pair.check_rest();
}

TEST_CASE("what was asked of a later life over an ended life's wire ends with that wire") {
  Pair pair;
  // The wire still leads to life 7, as far as node 1 knows; a ref to life 8 came with some message.
  pair.asker->send(pair.desk_ref(8), {1, 0, true}, 60s);
  pair.a.post->forget(NodeId{2}, Incarnation{7}, "declared dead");
  pair.run();
  REQUIRE(pair.asker->errors.size() == 1);
  CHECK(pair.asker->errors[0].kind == ErrorKind::kPeerDown);
}

TEST_CASE("what a peer sends is heard per plane") {
  Pair pair;
  pair.clock.time += 1s;
  pair.asker->note(pair.desk_ref(), 1);
  pair.run();
  CHECK(pair.b->post->last_heard(NodeId{1}, Plane::kData) == pair.clock.time);
  CHECK_FALSE(pair.b->post->last_heard(NodeId{1}, Plane::kControl).has_value());
}

TEST_CASE("random traffic with breaks and damage leaves every slot where it was") {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    Pair pair;
    Rng rng(seed);
    int asked = 0;
    for (int step = 0; step < 400; ++step) {
      switch (rng.below(8)) {
        case 0:
        case 1:
        case 2:
          pair.asker->send(pair.desk_ref(), {0, static_cast<std::uint32_t>(rng.below(200000)), rng.below(2) == 0}, 2s);
          ++asked;
          break;
        case 3:
          pair.asker->note(pair.desk_ref(), 1);
          break;
        case 4:
          if (!pair.desk->kept.empty()) pair.desk->kept.erase(pair.desk->kept.begin());
          break;
        case 5:
          if (rng.below(10) == 0) pair.damage = true;
          if (rng.below(10) == 0) {
            auto& breaker = rng.below(2) == 0 ? pair.a : *pair.b;
            breaker.post->disconnect(Plane::kData, NodeId{breaker.loop.node().value == 1 ? 2u : 1u});
            if (rng.below(2) == 0) pair.run();
          }
          break;
        case 6:
          pair.run(Duration(rng.below(30'000'000)));
          break;
        default:
          pair.a.connect(*pair.b);
          pair.b->connect(pair.a);
      }
    }
    pair.desk->kept.clear();
    pair.damage = false;
    pair.run();
    pair.a.connect(*pair.b);
    pair.b->connect(pair.a);
    pair.run(3s);
    pair.desk->kept.clear();  // what was under way at the first clearing
    pair.run();
    CHECK(pair.a.loop.outstanding_asks() == 0);
    CHECK(static_cast<std::size_t>(asked) ==
          static_cast<std::size_t>(pair.asker->answered) + pair.asker->errors.size());
    pair.check_rest();
  }
}

}  // namespace
