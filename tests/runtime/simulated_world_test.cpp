#include "runtime/simulated/world.hpp"

#include "simulated_cast.hpp"
#include "support/test.hpp"

namespace consort::runtime::cast {
namespace {

constexpr NodeId kDesk{1};
constexpr NodeId kAttic{2};

// Two nodes that know each other.
struct Pair {
  explicit Pair(std::uint64_t seed = 1, WorldModel model = {}) : world(seed, model) {
    desk = &world.add_node("desk", kDesk, counter_boot(&desk_notes, &posts), "host-a");
    attic = &world.add_node("attic", kAttic, counter_boot(&attic_notes, &posts), "host-b");
    introduce_all({desk, attic});
    world.run_for(1ms);
  }
  std::vector<std::uint64_t> desk_notes;
  std::vector<std::uint64_t> attic_notes;
  std::map<NodeId, TestPost*> posts;
  World world;
  SimProcess* desk = nullptr;
  SimProcess* attic = nullptr;
};

TEST_CASE("an ask crosses a simulated wire and comes back in virtual time") {
  Pair pair;
  CHECK(pair.desk->data().connected(kAttic));
  Ends ends;
  const Instant begin = pair.world.now();
  play(*pair.desk, [&](Player& player) { ask(player, counter_of(*pair.attic), 41, 1s, ends); });
  REQUIRE(pair.world.run_until([&] { return ends.count() == 1; }, "the answer").ok());
  CHECK(ends.values == std::vector<std::uint64_t>{42});
  const Duration took = pair.world.now() - begin;
  CHECK(took >= 2 * WorldModel{}.data.latency);
  CHECK(took <= 2 * (WorldModel{}.data.latency + WorldModel{}.data.jitter) + 10us);  // and some turns of 1-2 us
  CHECK(pair.world.not_at_rest(true).empty());
}

TEST_CASE("a wait in vain says for what it waited and what everybody was doing") {
  Pair pair;
  const auto nothing_left = pair.world.run_until([] { return false; }, "a miracle");
  REQUIRE_FALSE(nothing_left.ok());
  CHECK(nothing_left.error().kind == ErrorKind::kTimedOut);
  CHECK(nothing_left.error().text.find("all that could happen waiting for: a miracle") != std::string::npos);
  CHECK(nothing_left.error().text.find("attic (node 2): 0 asks") != std::string::npos);

  std::function<void(Player&)> tick = [&](Player& player) { player.after(1ms, [&] { tick(player); }); };
  play(*pair.desk, tick);
  const auto time_over = pair.world.run_until([] { return false; }, "a miracle", {.time = 1s, .events = 1000000});
  CHECK(time_over.error().text.find("1000 ms of virtual time") != std::string::npos);
  const auto events_over = pair.world.run_until([] { return false; }, "a miracle", {.time = 100s, .events = 50});
  CHECK(events_over.error().text.find("50 events") != std::string::npos);
}

TEST_CASE("a crashed peer is noticed late, and its asks end then") {
  WorldModel model;
  model.data.first_loss_notice = 100ms;
  model.data.last_loss_notice = 200ms;
  Pair pair(2, model);
  Ends ends;
  play(*pair.desk, [&](Player& player) { ask(player, counter_of(*pair.attic), 1, 10s, ends); });
  pair.world.at(pair.world.now() + 5us, [&] { pair.world.crash(*pair.attic); });
  const Instant begin = pair.world.now();
  REQUIRE(pair.world.run_until([&] { return ends.count() == 1; }, "the error").ok());
  REQUIRE(ends.errors.size() == 1);
  CHECK(ends.errors[0].kind == ErrorKind::kPeerDown);
  CHECK(pair.world.now() - begin >= 100ms);
  CHECK(pair.world.now() - begin <= 201ms);
  CHECK_FALSE(pair.desk->data().connected(kAttic));
  CHECK(pair.attic->ended());
  CHECK(pair.attic->end_reason() == "signal 9");
}

TEST_CASE("a loss may never be noticed, and then the deadline ends the ask") {
  WorldModel model;
  model.data.silent_loss = 1;
  Pair pair(3, model);
  pair.world.crash(*pair.attic);
  Ends ends;
  play(*pair.desk, [&](Player& player) {
    player.ask(RefTo<CounterProtocol>{{kAttic, Incarnation(2), kCounter}}, Count{1, {}}, 700ms)
        .then([&](Outcome<Counted> answer) { ends.errors.push_back(answer.error()); });
  });
  const Instant begin = pair.world.now();
  REQUIRE(pair.world.run_until([&] { return ends.count() == 1; }, "the deadline").ok());
  CHECK(ends.errors[0].kind == ErrorKind::kTimedOut);
  CHECK(pair.world.now() - begin >= 700ms);
  CHECK(pair.desk->data().connected(kAttic));  // as far as it knows
}

TEST_CASE("a paused process holds what happens to it, and then all of it happens in order") {
  Pair pair;
  pair.world.pause(*pair.attic, 2s);
  Ends ends;
  play(*pair.desk, [&](Player& player) {
    ask(player, counter_of(*pair.attic), 1, 1s, ends);  // too short for the pause
    ask(player, counter_of(*pair.attic), 10, 5s, ends);
    for (std::uint64_t i = 0; i < 20; ++i) player.tell(counter_of(*pair.attic), Note{i, {}});
  });
  pair.world.run_for(1900ms);
  REQUIRE(ends.errors.size() == 1);
  CHECK(ends.errors[0].kind == ErrorKind::kTimedOut);
  CHECK(pair.attic_notes.empty());
  REQUIRE(pair.world.run_until([&] { return ends.count() == 2; }, "the second ask").ok());
  CHECK(ends.values == std::vector<std::uint64_t>{11});
  pair.world.run_for(1ms);
  REQUIRE(pair.attic_notes.size() == 20);
  CHECK(std::is_sorted(pair.attic_notes.begin(), pair.attic_notes.end()));
  CHECK(pair.posts[kDesk]->changes.size() == 1);  // connected; a hang is never noticed by the wire
}

TEST_CASE("a pause within a pause lasts as long as the later one says, and resume ends it") {
  Pair pair;
  pair.world.pause(*pair.attic, 1s);
  pair.world.run_for(500ms);
  pair.world.pause(*pair.attic, 1s);
  pair.world.run_for(700ms);
  CHECK(pair.attic->paused());
  pair.world.run_for(400ms);
  CHECK_FALSE(pair.attic->paused());
  pair.world.pause(*pair.attic);
  pair.world.run_for(100s);
  CHECK(pair.attic->paused());
  pair.world.resume(*pair.attic);
  CHECK_FALSE(pair.attic->paused());
}

TEST_CASE("a restarted node is a new life that old references do not reach") {
  Pair pair;
  const auto old = counter_of(*pair.attic);
  pair.world.crash(*pair.attic);
  SimProcess& again = pair.world.restart(*pair.attic);
  CHECK(pair.world.find(kAttic) == &again);
  CHECK(again.data().token() != LinkToken{});
  REQUIRE(introduce(*pair.desk, again).ok());  // another incarnation replaces the connection
  REQUIRE(introduce(again, *pair.desk).ok());
  Ends ends;
  play(*pair.desk, [&](Player& player) {
    ask(player, counter_of(again), 5, 1s, ends);
    player.tell(old, Note{1, {}});
  });
  REQUIRE(pair.world.run_until([&] { return ends.count() == 1; }, "the new life's answer").ok());
  CHECK(ends.values == std::vector<std::uint64_t>{6});
  CHECK(pair.posts[kAttic]->stale == 1);
  CHECK(pair.attic_notes.empty());
}

TEST_CASE("an actor may end its own process, which ends after its turn") {
  Pair pair;
  bool went_on = false;
  play(*pair.attic, [&](Player& player) {
    player.env().terminator.terminate("its incarnation is stale");
    went_on = true;
  });
  pair.world.run_for(1ms);
  CHECK(went_on);
  CHECK(pair.attic->ended());
  CHECK(pair.attic->end_reason() == "exit code 1: its incarnation is stale");
}

TEST_CASE("what a process keeps outlives its actors, and what boot returned does not") {
  std::vector<std::string> ends;
  struct Says {
    std::vector<std::string>& ends;
    std::string what;
    Says(std::vector<std::string>& to, std::string word) : ends(to), what(std::move(word)) {}
    ~Says() { ends.push_back(what); }
  };
  {
    World world(1);
    SimProcess& node = world.add_node("desk", kDesk, [&](SimProcess& process) -> std::shared_ptr<void> {
      process.keep(std::make_shared<Says>(ends, "kept"));
      auto in_actor = std::make_shared<Says>(ends, "actor");
      process.loop().spawn_root(1, 0, [in_actor] { return std::make_unique<Player>([in_actor](Player&) {}); });
      return std::make_shared<Says>(ends, "house");
    });
    world.run_for(1ms);
    world.crash(node);
  }
  CHECK(ends == std::vector<std::string>{"house", "actor", "kept"});
}

TEST_CASE("a fault can fall before any event") {
  // One run without faults counts the events; then one run per event with a crash right before it.
  const auto run = [](std::optional<std::uint64_t> crash_at, std::uint64_t& events, Ends& ends) {
    Pair pair;
    const std::uint64_t first = pair.world.event_count();
    if (crash_at) pair.world.at_event(first + *crash_at, [&] { pair.world.crash(*pair.attic); });
    const auto counter = counter_of(*pair.attic);
    play(*pair.desk, [&, counter](Player& player) {
      for (std::uint64_t i = 0; i < 3; ++i) ask(player, counter, i, 2s, ends);
    });
    CHECK(pair.world.run_until([&] { return ends.count() == 3; }, "three ends").ok());
    pair.world.run_for(5s);
    CHECK(ends.count() == 3);  // and no more
    events = pair.world.event_count() - first;
  };
  std::uint64_t events = 0;
  Ends undisturbed;
  run(std::nullopt, events, undisturbed);
  CHECK(undisturbed.values.size() == 3);
  REQUIRE(events >= 9);
  std::size_t failed = 0;
  for (std::uint64_t i = 0; i < events; ++i) {
    Ends ends;
    std::uint64_t ignored = 0;
    run(i, ignored, ends);
    failed += ends.errors.size();
    for (const Error& error : ends.errors) CHECK(error.kind == ErrorKind::kPeerDown);
  }
  CHECK(failed >= 3);
}

TEST_CASE("observers see every event once, in order of time") {
  Pair pair;
  std::vector<SimEvent> seen;
  pair.world.add_observer([&](const SimEvent& event) { seen.push_back(event); });
  const std::uint64_t before = pair.world.event_count();
  Ends ends;
  play(*pair.desk, [&](Player& player) { ask(player, counter_of(*pair.attic), 1, 1s, ends); });
  pair.world.run_for(1ms);
  REQUIRE(seen.size() == pair.world.event_count() - before);
  REQUIRE(seen.size() == 5);  // start, frame, handler, frame, continuation
  for (std::size_t i = 0; i < seen.size(); ++i) {
    CHECK(seen[i].index == before + i);
    if (i > 0) CHECK(seen[i].time >= seen[i - 1].time);
  }
  CHECK(seen[1].kind == SimEventKind::kFrame);
  CHECK(seen[1].node == kAttic);
  CHECK(seen[1].peer == kDesk);
  CHECK(seen[1].message_kind == Count::kKind);
  CHECK(seen[2].kind == SimEventKind::kTurn);
  CHECK(seen[2].message_kind == Count::kKind);
  CHECK(seen[4].node == kDesk);
  CHECK(name(seen[4].kind) == "turn");
}

TEST_CASE("a world that is not at rest says what is left") {
  Pair pair;
  std::size_t held = 3;
  pair.desk->add_rest_check("pages in use", [&] { return held; });
  Ends ends;
  pair.world.pause(*pair.attic);
  play(*pair.desk, [&](Player& player) { ask(player, counter_of(*pair.attic), 1, 100s, ends); });
  pair.world.run_for(1ms);
  CHECK(pair.world.not_at_rest(true) == std::vector<std::string>{"desk: 1 outstanding asks", "desk: 3 pages in use",
                                                                 "the network: 1 parcels under way"});
  pair.world.resume(*pair.attic);
  held = 0;
  pair.world.run_for(1ms);
  CHECK(pair.world.not_at_rest(true).empty());
}

}  // namespace
}  // namespace consort::runtime::cast
