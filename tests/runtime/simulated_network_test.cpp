#include "runtime/simulated/sim_network.hpp"

#include <algorithm>

#include "runtime/error_reply.hpp"
#include "simulated_cast.hpp"
#include "support/test.hpp"

namespace consort::runtime::cast {
namespace {

constexpr NodeId kDesk{1};
constexpr NodeId kAttic{2};

struct Pair {
  explicit Pair(std::uint64_t seed = 1, WorldModel model = {}) : world(seed, model) {
    desk = &world.add_node("desk", kDesk, counter_boot(nullptr, &posts));
    attic = &world.add_node("attic", kAttic, counter_boot(&notes, &posts));
    introduce_all({desk, attic});
    world.run_for(1ms);
    counter = counter_of(*attic);
  }
  // `count` notes numbered from `first`, all sent in one turn.
  void send_notes(std::uint64_t first, std::uint64_t count, std::uint32_t player, std::size_t payload_bytes = 0) {
    play(
        *desk,
        [=, this](Player& from) {
          for (std::uint64_t i = first; i < first + count; ++i) {
            from.tell(counter, Note{i, Buffer::copy_of(std::vector<std::byte>(payload_bytes, std::byte{1}))});
          }
        },
        player);
  }
  SimNetwork& network() { return world.network(); }

  std::vector<std::uint64_t> notes;
  std::map<NodeId, TestPost*> posts;
  World world;
  SimProcess* desk = nullptr;
  SimProcess* attic = nullptr;
  RefTo<CounterProtocol> counter;
};

bool is_count_from_zero(const std::vector<std::uint64_t>& notes) {
  for (std::size_t i = 0; i < notes.size(); ++i) {
    if (notes[i] != i) return false;
  }
  return true;
}

TEST_CASE("a simulated wire takes the time that its rate says") {
  Pair pair;
  pair.send_notes(0, 1, 0, 12'500'000);  // 10 ms at 1.25 GB/s
  const Instant begin = pair.world.now();
  REQUIRE(pair.world.run_until([&] { return pair.notes.size() == 1; }, "the note").ok());
  const Duration full = pair.world.now() - begin;
  CHECK(full >= 10ms);
  CHECK(full <= 10ms + 60us);
  pair.network().slow(kDesk, kAttic, 3);
  pair.send_notes(1, 1, 1, 12'500'000);
  const Instant second = pair.world.now();
  REQUIRE(pair.world.run_until([&] { return pair.notes.size() == 2; }, "the slow note").ok());
  CHECK(pair.world.now() - second >= 30ms);
  CHECK(pair.world.now() - second <= 30ms + 60us);
}

TEST_CASE("frames of a class arrive in order whatever the jitter") {
  WorldModel model;
  model.data.jitter = 5ms;
  Pair pair(7, model);
  pair.send_notes(0, 500, 0);
  pair.world.run_for(1s);
  CHECK(pair.notes.size() == 500);
  CHECK(is_count_from_zero(pair.notes));
}

TEST_CASE("a lane that is full says exhausted and goes on when it has room") {
  WorldModel model;
  model.data.queue_frames = 10;
  Pair pair(1, model);
  pair.network().part(kDesk, kAttic);
  pair.send_notes(0, 15, 0);
  pair.world.run_for(1ms);
  CHECK(pair.desk->loop().dead_letter_count(ErrorKind::kExhausted) == 5);
  pair.network().heal(kDesk, kAttic);
  pair.world.run_for(1ms);
  CHECK(pair.notes.size() == 10);
  pair.send_notes(10, 5, 1);
  pair.world.run_for(1ms);
  CHECK(pair.notes.size() == 15);
  CHECK(is_count_from_zero(pair.notes));
}

TEST_CASE("a one-way part holds one direction until it heals, and loses nothing") {
  Pair pair;
  pair.network().part(kAttic, kDesk);
  Ends ends;
  play(
      *pair.desk, [&](Player& player) { ask(player, pair.counter, 1, 10s, ends); }, 0);
  pair.send_notes(0, 5, 1);
  pair.world.run_for(3s);
  CHECK(pair.notes.size() == 5);  // there
  CHECK(ends.count() == 0);       // and not back
  pair.network().heal(kAttic, kDesk);
  pair.world.run_for(1ms);
  CHECK(ends.values == std::vector<std::uint64_t>{2});
}

TEST_CASE("a part both ways holds connects, too") {
  World world(1);
  SimProcess& desk = world.add_node("desk", kDesk, counter_boot());
  SimProcess& attic = world.add_node("attic", kAttic, counter_boot());
  world.network().part(kDesk, kAttic);
  world.network().part(kAttic, kDesk);
  introduce_all({&desk, &attic});
  world.run_for(5s);
  CHECK_FALSE(desk.data().connected(kAttic));
  world.network().heal_all();
  world.run_for(1ms);
  CHECK(desk.data().connected(kAttic));
  CHECK(attic.data().connected(kDesk));
}

TEST_CASE("a stall holds frames until its time and keeps their order") {
  Pair pair;
  pair.network().stall(kDesk, kAttic, 300ms);
  pair.send_notes(0, 10, 0);
  pair.world.run_for(299ms);
  CHECK(pair.notes.empty());
  pair.send_notes(10, 10, 1);
  pair.world.run_for(2ms);
  CHECK(pair.notes.size() == 20);
  CHECK(is_count_from_zero(pair.notes));
}

TEST_CASE("a longer stall outlasts a shorter one, and heal ends both") {
  Pair pair;
  pair.network().stall(kDesk, kAttic, 100ms);
  pair.network().stall(kDesk, kAttic, 300ms);
  pair.send_notes(0, 3, 0);
  pair.world.run_for(250ms);
  CHECK(pair.notes.empty());
  pair.network().heal(kDesk, kAttic);
  pair.world.run_for(1ms);
  CHECK(pair.notes.size() == 3);
  pair.network().stall(kDesk, kAttic, 100ms);
  pair.network().part(kDesk, kAttic);
  pair.network().stall(kDesk, kAttic, 100ms);
  pair.send_notes(3, 3, 1);
  pair.world.run_for(1s);
  CHECK(pair.notes.size() == 3);  // a part does not end with a stall
  pair.network().heal_all();
  pair.world.run_for(1ms);
  CHECK(is_count_from_zero(pair.notes));
  CHECK(pair.notes.size() == 6);
}

TEST_CASE("a delay is added to every later frame") {
  Pair pair;
  pair.network().delay(kDesk, kAttic, 50ms);
  pair.send_notes(0, 1, 0);
  pair.world.run_for(50ms);
  CHECK(pair.notes.empty());
  pair.world.run_for(1ms);
  CHECK(pair.notes.size() == 1);
}

TEST_CASE("a broken connection delivers a first part in order, loses the rest, and is told to both ends") {
  std::size_t some = 0;
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    Pair pair(seed);
    Ends ends;
    play(
        *pair.desk, [&](Player& player) { ask(player, pair.counter, 1, 10s, ends); }, 0);
    pair.world.run_for(1ms);
    pair.network().stall(kDesk, kAttic, 10ms);  // so that all of it is under way
    pair.send_notes(0, 50, 1);
    pair.world.run_for(1ms);
    pair.network().break_between(kDesk, kAttic, {.first = 20ms, .second = 30ms});
    pair.send_notes(50, 5, 2);  // accepted, and lost: nobody has noticed yet
    pair.world.run_for(1ms);
    CHECK(pair.desk->loop().dead_letter_count(ErrorKind::kPeerDown) == 0);
    pair.world.run_for(100ms);
    CHECK(pair.notes.size() <= 50);
    CHECK(is_count_from_zero(pair.notes));
    if (!pair.notes.empty() && pair.notes.size() < 50) ++some;
    CHECK(pair.network().lost() == 55 - pair.notes.size());
    for (const NodeId node : {kDesk, kAttic}) {
      REQUIRE(pair.posts[node]->changes.size() == 2);
      CHECK(pair.posts[node]->changes[1].change == PeerChange::kLost);
    }
    CHECK(pair.posts[kAttic]->changes[1].when - pair.posts[kDesk]->changes[1].when == 10ms);
    // Both may connect again, to the same life.
    introduce_all({pair.desk, pair.attic});
    play(
        *pair.desk, [&](Player& player) { ask(player, pair.counter, 8, 1s, ends); }, 3);
    pair.world.run_for(1ms);
    CHECK(ends.values.back() == 9);
  }
  CHECK(some >= 20);
}

TEST_CASE("one end of a broken connection may never learn of it") {
  Pair pair;
  pair.network().break_between(kDesk, kAttic, {.first = std::nullopt, .second = 5ms});
  pair.world.run_for(100s);
  CHECK(pair.desk->data().connected(kAttic));
  CHECK_FALSE(pair.attic->data().connected(kDesk));
  pair.send_notes(0, 3, 0);
  pair.world.run_for(1s);
  CHECK(pair.notes.empty());
  pair.desk->data().disconnect(kAttic);  // as when heartbeats fail
  REQUIRE(introduce(*pair.desk, *pair.attic).ok());
  pair.send_notes(0, 3, 1);
  pair.world.run_for(1ms);
  CHECK(pair.notes.size() == 3);
}

TEST_CASE("a corrupted bit is always caught, ends its connection both ways, and both ends hear of it") {
  std::uint64_t heads = 0;
  std::uint64_t payloads = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    Pair pair(seed);
    Ends before;
    play(
        *pair.desk, [&](Player& player) { ask(player, pair.counter, 1, 1s, before, 100); }, 0);
    REQUIRE(pair.world.run_until([&] { return before.count() == 1; }, "the answer").ok());
    pair.network().corrupt(kDesk, kAttic, 1);
    Ends ends;
    play(
        *pair.desk,
        [&](Player& player) {
          ask(player, pair.counter, 1, 1s, ends, 100);
          ask(player, pair.counter, 2, 1s, ends, 100);  // behind the damage
        },
        1);
    REQUIRE(pair.world.run_until([&] { return ends.count() == 2; }, "both ends", {.time = 10ms}).ok());
    CHECK(pair.network().corrupted() == 1);
    const auto& counters = pair.attic->data().counters();
    CHECK(counters.malformed_heads + counters.malformed_payloads == 1);
    CHECK(ends.values.empty());
    for (const auto& error : ends.errors) CHECK(error.kind == ErrorKind::kPeerDown);
    for (auto [process, peer] : {std::pair(pair.desk, kAttic), std::pair(pair.attic, kDesk)}) {
      const auto& changes = pair.posts[process->node()]->changes;
      CHECK(changes.back().change == PeerChange::kLost);
      CHECK(changes.back().why == "a frame came damaged");
      CHECK(std::ranges::count(changes, PeerChange::kLost, &TestPost::Change::change) == 1);
      CHECK_FALSE(process->data().connected(peer));
    }
    introduce_all({pair.desk, pair.attic});
    pair.world.run_for(1ms);
    Ends after;
    play(
        *pair.desk, [&](Player& player) { ask(player, pair.counter, 3, 1s, after, 100); }, 2);
    REQUIRE(pair.world.run_until([&] { return after.count() == 1; }, "the answer").ok());
    CHECK(after.values.size() == 1);
    heads += counters.malformed_heads;
    payloads += counters.malformed_payloads;
  }
  CHECK(heads >= 10);
  CHECK(payloads >= 10);
}

TEST_CASE("an old token is refused, counted, and what follows it is dropped") {
  Pair pair;
  const LinkToken old = pair.attic->data().token();
  pair.world.crash(*pair.attic);
  SimProcess& again = pair.world.restart(*pair.attic);
  REQUIRE(pair.desk->data().connect(kAttic, again.loop().incarnation(), again.data().address(), old).ok());
  CHECK(introduce(*pair.desk, again).ok());  // the same incarnation: nothing new
  play(*pair.desk, [&](Player& player) { player.tell(counter_of(again), Note{1, {}}); });
  pair.world.run_for(10ms);
  CHECK(again.data().counters().wrong_token == 1);
  CHECK(again.data().counters().no_hello == 1);
  CHECK(again.data().counters().frames_received == 0);
  CHECK(pair.notes.empty());
  CHECK_FALSE(pair.desk->data().connected(kAttic));
  CHECK(pair.posts[kDesk]->changes.back().why == "the token is not that of its present incarnation");
}

TEST_CASE("an address of an ended process, of another node or of no link leads nowhere") {
  Pair pair;
  SimProcess& garage = pair.world.add_node("garage", NodeId(3), counter_boot(nullptr, &pair.posts));
  REQUIRE(garage.data().connect(kDesk, Incarnation(1), pair.attic->data().address(), pair.attic->data().token()).ok());
  pair.world.run_for(1ms);
  CHECK(pair.posts[NodeId(3)]->changes.back().why == "the address belongs to another node");
  const LinkAddress gone = pair.attic->data().address();
  pair.world.crash(*pair.attic);
  REQUIRE(garage.data().connect(kAttic, Incarnation(2), gone, {}).ok());
  pair.world.run_for(1s);
  CHECK(pair.posts[NodeId(3)]->changes.back().peer == kAttic);
  CHECK(pair.posts[NodeId(3)]->changes.back().change == PeerChange::kLost);
  CHECK(garage.data().connect(kAttic, Incarnation(2), LinkAddress{}, {}).error().kind == ErrorKind::kInvalid);
  CHECK(garage.data().send(kAttic, Frame{}).error().kind == ErrorKind::kPeerDown);
}

TEST_CASE("a frame under another name than its hello's is dropped and counted") {
  Pair pair;
  Frame frame;
  frame.header.source_node = NodeId(9);
  frame.header.source_incarnation = pair.desk->loop().incarnation();
  REQUIRE(pair.desk->data().send(kAttic, frame).ok());
  frame.header.source_node = kDesk;
  frame.header.source_incarnation = Incarnation(77);
  REQUIRE(pair.desk->data().send(kAttic, frame).ok());
  pair.world.run_for(1ms);
  CHECK(pair.attic->data().counters().wrong_source == 2);
}

TEST_CASE("a frame beyond the limits of its head is refused where it is sent") {
  Pair pair;
  Frame frame;
  frame.metadata.resize(kMaxMetadataBytes + 1);
  CHECK(pair.desk->data().send(kAttic, frame).error().kind == ErrorKind::kExhausted);
}

// Control: as ZeroMQ.
struct Hears final : LinkSink {
  void on_frame(NodeId from, Frame frame) override { frames.emplace_back(from, frame.header.correlation); }
  void on_peer(NodeId peer, PeerChange change, std::string_view) override { changes.emplace_back(peer, change); }
  std::vector<std::pair<NodeId, std::uint64_t>> frames;
  std::vector<std::pair<NodeId, PeerChange>> changes;
};
Frame numbered(NodeId source, std::uint64_t number) {
  Frame frame;
  frame.header.source_node = source;
  frame.header.correlation = number;
  return frame;
}
SimBoot hears_boot(Hears& hears) {
  return [&hears](SimProcess& process) -> std::shared_ptr<void> {
    process.control().attach(hears);
    return nullptr;
  };
}

constexpr NodeId kClient{0xF0000001};
constexpr NodeId kCoordinator{9};

TEST_CASE("a control link waits for an absent peer, which answers a client without a connect of its own") {
  World world(1);
  Hears at_client;
  Hears at_coordinator;
  SimProcess& client = world.add_node("client", kClient, hears_boot(at_client));
  // As with ZeroMQ: whom nobody has told the address of, nobody reaches.
  CHECK(client.control().connect(kCoordinator, {}, {}, {}).error().kind == ErrorKind::kInvalid);
  REQUIRE(client.control().connect(kCoordinator, {}, SimNetwork::usual_address(kCoordinator), {}).ok());
  for (std::uint64_t i = 0; i < 3; ++i) REQUIRE(client.control().send(kCoordinator, numbered(kClient, i)).ok());
  world.run_for(2s);
  CHECK_FALSE(client.control().connected(kCoordinator));
  SimProcess& coordinator = world.add_node("coordinator", kCoordinator, hears_boot(at_coordinator));
  world.run_for(200ms);
  CHECK(client.control().connected(kCoordinator));
  CHECK(coordinator.control().connected(kClient));
  CHECK(at_coordinator.frames ==
        std::vector<std::pair<NodeId, std::uint64_t>>{{kClient, 0}, {kClient, 1}, {kClient, 2}});
  REQUIRE(coordinator.control().send(kClient, numbered(kCoordinator, 7)).ok());
  world.run_for(1ms);
  CHECK(at_client.frames == std::vector<std::pair<NodeId, std::uint64_t>>{{kCoordinator, 7}});
  CHECK(at_client.changes == std::vector<std::pair<NodeId, PeerChange>>{{kCoordinator, PeerChange::kConnected}});
  world.crash(client);
  world.run_for(1s);
  CHECK(coordinator.control().send(kClient, numbered(kCoordinator, 8)).error().kind == ErrorKind::kPeerDown);
  CHECK(at_coordinator.changes.empty());
}

TEST_CASE("a control peer that is no client is answered over a connect of its own, under either life") {
  World world(1);
  Hears at_desk;
  Hears at_coordinator;
  SimProcess& desk = world.add_node("desk", kDesk, hears_boot(at_desk));
  SimProcess& coordinator = world.add_node("coordinator", kCoordinator, hears_boot(at_coordinator));
  REQUIRE(desk.control().connect(kCoordinator, {}, SimNetwork::usual_address(kCoordinator), {}).ok());
  world.run_for(1ms);
  CHECK(coordinator.control().send(kDesk, numbered(kCoordinator, 1)).error().kind == ErrorKind::kPeerDown);
  REQUIRE(coordinator.control().connect(kDesk, {}, SimNetwork::usual_address(kDesk), {}).ok());
  REQUIRE(coordinator.control().send(kDesk, numbered(kCoordinator, 7)).ok());
  REQUIRE(coordinator.control().connect(kDesk, Incarnation(4), SimNetwork::usual_address(kDesk), {}).ok());
  REQUIRE(coordinator.control().send(kDesk, numbered(kCoordinator, 8)).ok());
  world.run_for(1ms);
  CHECK(at_desk.frames == std::vector<std::pair<NodeId, std::uint64_t>>{{kCoordinator, 7}, {kCoordinator, 8}});
  LinkToken wrong{};
  wrong[3] = std::byte{1};
  REQUIRE(coordinator.control()
              .connect(kDesk, Incarnation(4), SimNetwork::usual_address(kDesk), wrong)
              .ok());  // the same life: nothing new
  coordinator.control().disconnect(kDesk);
  REQUIRE(coordinator.control().connect(kDesk, Incarnation(4), SimNetwork::usual_address(kDesk), wrong).ok());
  world.run_for(1ms);
  CHECK(desk.control().counters().wrong_token == 1);
  CHECK_FALSE(coordinator.control().connected(kDesk));
}

TEST_CASE("a control disconnect ends both directions, and a new connect begins both again") {
  // The goodbye and the new hello race; both orders occur among these seeds.
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    World world(seed);
    Hears at_client;
    Hears at_coordinator;
    SimProcess& client = world.add_node("client", kClient, hears_boot(at_client));
    SimProcess& coordinator = world.add_node("coordinator", kCoordinator, hears_boot(at_coordinator));
    REQUIRE(client.control().connect(kCoordinator, {}, SimNetwork::usual_address(kCoordinator), {}).ok());
    world.run_for(1ms);
    REQUIRE(coordinator.control().send(kClient, numbered(kCoordinator, 1)).ok());
    client.control().disconnect(kCoordinator);
    CHECK(client.control().send(kCoordinator, numbered(kClient, 1)).error().kind == ErrorKind::kPeerDown);
    if (seed % 2 == 0) {
      world.run_for(1ms);
      CHECK_FALSE(coordinator.control().connected(kClient));
    }
    REQUIRE(client.control().connect(kCoordinator, {}, SimNetwork::usual_address(kCoordinator), {}).ok());
    world.run_for(1ms);
    CHECK(at_client.frames.empty());  // what was under way to it found nobody
    CHECK(client.control().counters().no_hello == 1);
    REQUIRE(coordinator.control().send(kClient, numbered(kCoordinator, 2)).ok());
    world.run_for(1ms);
    CHECK(at_client.frames == std::vector<std::pair<NodeId, std::uint64_t>>{{kCoordinator, 2}});
  }
}

TEST_CASE("a data disconnect is told to the other end, which may connect again") {
  Pair pair;
  pair.desk->data().disconnect(kAttic);
  pair.world.run_for(1ms);
  CHECK(pair.posts[kAttic]->changes.back().why == "it closed the connection");
  CHECK_FALSE(pair.attic->data().connected(kDesk));
  introduce_all({pair.desk, pair.attic});
  pair.send_notes(0, 2, 0);
  pair.world.run_for(1ms);
  CHECK(pair.notes.size() == 2);
}

TEST_CASE("the model of a wire may change while it runs") {
  Pair pair;
  SimLinkModel slow = pair.network().model_of(Wire::kData);
  slow.latency = 5ms;
  slow.silent_loss = 1;
  pair.network().set_model(Wire::kData, slow);
  pair.send_notes(0, 1, 0);
  pair.world.run_for(4900us);
  CHECK(pair.notes.empty());
  pair.world.run_for(200us);
  CHECK(pair.notes.size() == 1);
  pair.world.crash(*pair.attic);
  pair.world.run_for(10s);
  CHECK(pair.desk->data().connected(kAttic));  // nobody tells
}

TEST_CASE("a control peer that returns is reached at its usual address") {
  World world(1);
  Hears at_desk;
  Hears at_coordinator;
  SimProcess& desk = world.add_node("desk", kDesk, hears_boot(at_desk));
  SimProcess& coordinator = world.add_node("coordinator", NodeId(9), hears_boot(at_coordinator));
  REQUIRE(desk.control().connect(NodeId(9), {}, SimNetwork::usual_address(NodeId(9)), {}).ok());
  world.run_for(1ms);
  world.crash(coordinator);
  world.run_for(1s);
  REQUIRE(at_desk.changes.size() == 2);
  CHECK(at_desk.changes[1].second == PeerChange::kLost);
  REQUIRE(desk.control().connect(NodeId(9), {}, SimNetwork::usual_address(NodeId(9)), {}).ok());
  world.run_for(1s);
  world.restart(coordinator);
  world.run_for(200ms);
  CHECK(desk.control().connected(NodeId(9)));
}

}  // namespace
}  // namespace consort::runtime::cast
