#include "runtime/simulated/sim_process.hpp"

#include "simulated_cast.hpp"
#include "support/test.hpp"

namespace consort::runtime::cast {
namespace {

TEST_CASE("a simulated device takes the time of its cost model, urgent work first, one at a time") {
  World world(1);
  SimProcess& node = world.add_node("desk", NodeId(1), nullptr);
  node.device().set_model({.fixed = 100us, .bytes_per_second = 1e9, .per_row = 10us});
  std::vector<std::pair<int, Duration>> done;
  std::vector<int> ran;
  const Instant begin = world.now();
  const auto submit = [&](int number, MessageClass urgency, std::uint64_t bytes, std::uint64_t rows) {
    node.device().submit(
        {.run = [&,
                 number](Workers& workers) { workers.parallel_for(1, [&](std::int64_t) { ran.push_back(number); }); },
         .label = "part",
         .weight_bytes = bytes,
         .rows = rows},
        urgency, [&, number] { done.emplace_back(number, world.now() - begin); });
  };
  submit(1, MessageClass::kBulk, 1'000'000, 10);  // 100 us + 1 ms + 100 us
  submit(2, MessageClass::kBulk, 0, 0);
  submit(3, MessageClass::kDecode, 0, 5);
  CHECK(node.device().queued() == 3);
  world.run_for(10ms);
  CHECK(done == std::vector<std::pair<int, Duration>>{{1, 1200us}, {3, 1350us}, {2, 1450us}});
  CHECK(ran == std::vector<int>{1, 3, 2});
  CHECK(node.device().queued() == 0);
  CHECK(node.device().busy_time() == 1450us);

  done.clear();
  node.set_slowness(3);
  const Duration at = world.now() - begin;
  submit(4, MessageClass::kDecode, 0, 0);
  world.run_for(10ms);
  CHECK(done == std::vector<std::pair<int, Duration>>{{4, at + 300us}});
}

TEST_CASE("compute comes back to its actor as a turn, and not to one that crashed or is paused") {
  World world(1);
  SimProcess& node = world.add_node("desk", NodeId(1), nullptr);
  int done = 0;
  int ran = 0;
  const auto compute = [&](Player& player) {
    player.compute({.run = [&](Workers&) { ++ran; }, .label = "part"}, MessageClass::kDecode, [&] { ++done; });
  };
  play(node, compute, 0);
  world.run_for(1ms);
  CHECK(done == 1);
  play(node, compute, 1);
  world.run_for(5us);
  world.pause(node, 1s);
  world.run_for(500ms);
  CHECK(ran == 1);
  world.run_for(600ms);
  CHECK(done == 2);
  play(node, compute, 2);
  world.run_for(5us);
  world.crash(node);
  world.run_for(1s);
  CHECK(ran == 2);
  CHECK(done == 2);
}

// An agent that starts one worker and starts it again when it ends.
struct Agency {
  Agency() : world(5) {
    world.set_program([this](const ProcessSpec& spec) -> Outcome<SimProgram> {
      if (spec.arguments.empty()) return failure(ErrorKind::kInvalid, "no node is named");
      return SimProgram{NodeId(static_cast<std::uint32_t>(std::stoul(spec.arguments[0]))), counter_boot(&notes)};
    });
    agent = &world.add_node(
        "agent", NodeId(100),
        [this](SimProcess& process) -> std::shared_ptr<void> {
          process.env().spawner->on_exit([this, &process](ProcessExit exit) {
            exits.push_back(exit);
            if (restart) children.push_back(process.env().spawner->start({"desk", {"7"}}).value());
          });
          return nullptr;
        },
        "box");
  }
  ProcessId start() { return agent->env().spawner->start({"desk", {"7"}}).value(); }

  std::vector<std::uint64_t> notes;
  std::vector<ProcessExit> exits;
  std::vector<ProcessId> children;
  bool restart = false;
  World world;
  SimProcess* agent = nullptr;
};

TEST_CASE("an agent starts a worker on its host and hears of its end") {
  Agency agency;
  const ProcessId first = agency.start();
  CHECK(agency.world.find(NodeId(7)) == nullptr);  // starting takes time
  agency.world.run_for(11ms);
  SimProcess* worker = agency.world.find("desk");
  REQUIRE(worker != nullptr);
  CHECK(worker->host() == "box");
  CHECK(worker->id() == first);
  CHECK(worker->spec().arguments[0] == "7");
  agency.restart = true;
  agency.world.crash(*worker);
  agency.world.run_for(1ms);
  REQUIRE(agency.exits.size() == 1);
  CHECK(agency.exits[0].process == first);
  CHECK(agency.exits[0].description == "signal 9");
  agency.world.run_for(11ms);
  SimProcess* again = agency.world.find(NodeId(7));
  REQUIRE(again != nullptr);
  CHECK(again != worker);
  CHECK(again->id() == agency.children.at(0));
}

TEST_CASE("an agent kills a child whether it is running, paused or starting, and nobody else's") {
  Agency agency;
  Spawner& spawner = *agency.agent->env().spawner;
  const ProcessId paused = agency.start();
  agency.world.run_for(11ms);
  agency.world.pause(*agency.world.find(NodeId(7)));
  const ProcessId starting = agency.start();
  spawner.kill(paused);
  spawner.kill(starting);
  spawner.kill(agency.agent->id());
  spawner.kill(12345);
  agency.world.run_for(1s);
  CHECK(agency.world.find(NodeId(7)) == nullptr);
  CHECK_FALSE(agency.agent->ended());
  REQUIRE(agency.exits.size() == 2);
  CHECK(agency.exits[0].process == paused);
  CHECK(agency.exits[1].process == starting);
}

TEST_CASE("a child dies with its agent, and a paused agent hears of exits later") {
  Agency agency;
  agency.start();
  agency.world.run_for(11ms);
  agency.world.pause(*agency.agent, 1s);
  agency.world.crash(*agency.world.find(NodeId(7)));
  agency.world.run_for(900ms);
  CHECK(agency.exits.empty());
  agency.world.run_for(200ms);
  CHECK(agency.exits.size() == 1);
  agency.start();
  agency.world.run_for(11ms);
  SimProcess* worker = agency.world.find(NodeId(7));
  REQUIRE(worker != nullptr);
  agency.world.crash(*agency.agent);
  CHECK(worker->ended());
  CHECK(worker->end_reason() == "its parent ended");
}

TEST_CASE("what cannot be started is refused in words") {
  Agency agency;
  CHECK(agency.agent->env().spawner->start({"nobody", {}}).error().text == "no node is named");
  World bare(1);
  SimProcess& node = bare.add_node("desk", NodeId(1), nullptr);
  CHECK(node.env().spawner->start({"desk", {}}).error().kind == ErrorKind::kInvalid);
}

TEST_CASE("a process that ends while it boots is told to its parent") {
  World world(1);
  std::vector<ProcessExit> exits;
  world.set_program([](const ProcessSpec&) -> Outcome<SimProgram> {
    return SimProgram{NodeId(7), [](SimProcess& process) -> std::shared_ptr<void> {
                        process.env().terminator.terminate("its config is wrong");
                        return nullptr;
                      }};
  });
  SimProcess& agent = world.add_node("agent", NodeId(100), nullptr);
  agent.env().spawner->on_exit([&](ProcessExit exit) { exits.push_back(exit); });
  REQUIRE(agent.env().spawner->start({"desk", {}}).ok());
  world.run_for(1s);
  REQUIRE(exits.size() == 1);
  CHECK(exits[0].description == "exit code 1: its config is wrong");
}

TEST_CASE("virtual wall time goes with virtual time") {
  World world(1);
  SimProcess& node = world.add_node("desk", NodeId(1), nullptr);
  const auto before = node.env().clock.unix_ns();
  world.run_for(3s);
  CHECK(node.env().clock.unix_ns() - before == 3'000'000'000);
}

}  // namespace
}  // namespace consort::runtime::cast
