// Coordinator, Membership and NodeAgent together, in simulated worlds.
// SPDX-License-Identifier: Apache-2.0
#include "cluster/membership.hpp"

#include "cluster_in_world.hpp"
#include "support/test.hpp"

namespace {

using namespace consort::cluster;
using namespace consort::runtime;
using namespace consort::tests;

const ActorRef kCoordinatorRef{kCoordinatorNode, {}, actor_id(Role::kCoordinator)};

std::string failed(const Status& status) { return status.ok() ? "" : status.error().text; }

TEST_CASE("three workers join, probe, get their parts and are ready") {
  ClusterInWorld c(1);
  const auto ready = c.until_ready();
  CAPTURE(failed(ready));
  REQUIRE(ready.ok());
  const ClusterView& view = *c.view_at(1);
  CHECK(view.epoch.value == 1);
  CHECK(view.placement.size() >= 32);
  for (const auto& [part, holders] : view.placement) CHECK(holders.size() == 2);
  for (std::uint32_t w = 2; w <= 3; ++w) {
    CHECK(c.view_at(w)->placement == view.placement);
    CHECK(c.view_at(w)->numeric_plan == view.numeric_plan);
    CHECK(c.view_at(w)->epoch == view.epoch);
  }
  for (const Member& member : view.members) {
    CHECK(member.incarnation.value == 1);
    CHECK(member.profile.expert_bytes_per_second == c.options.speeds[member.node.value - 1]);
    CHECK(member.profile.link_delay_seconds > 0);
    CHECK(member.profile.link_bytes_per_second > 1e8);
    std::size_t parts = 0;
    for (const auto& [part, holders] : view.placement) {
      parts += static_cast<std::size_t>(std::count(holders.begin(), holders.end(), member.node));
    }
    CHECK(member.part_count == parts);
    CHECK(c.heard[member.node.value].parts_loaded == std::vector<std::size_t>{parts});
  }
  CHECK(c.most_probing[0] == 1);
  for (std::uint32_t w = 1; w <= 3; ++w) {
    CHECK(c.heard[w].lost.empty());
    CHECK(c.heard[w].suspected.empty());
  }
}

TEST_CASE("two hosts probe at the same time, workers of one host do not") {
  WorldOptions options;
  options.hosts = 2;
  options.workers = 4;
  options.speeds = {1e9, 1e9, 1e9, 1e9};
  ClusterInWorld c(2, options);
  REQUIRE(c.until_ready().ok());
  CHECK(c.most_probing[0] == 1);
  CHECK(c.most_probing[1] == 1);
}

TEST_CASE("a killed worker is lost to the others within milliseconds and comes back as a new life with its parts") {
  ClusterInWorld c(3);
  REQUIRE(c.until_ready().ok());
  c.world.run_for(1s);
  const auto parts = c.heard[3].parts_loaded.back();
  const Epoch epoch = c.view_at(1)->epoch;
  const Instant killed = c.world.now();
  c.world.crash(*c.world.find(NodeId{3}));
  c.world.run_for(50ms);
  for (const std::uint32_t w : {1u, 2u}) {
    REQUIRE(c.heard[w].lost.size() == 1);
    CHECK(c.heard[w].lost[0].node == NodeId{3});
    CHECK(c.heard[w].lost[0].incarnation.value == 1);
    CHECK(c.heard[w].lost_at[0] - killed < 10ms);
  }
  const auto ready = c.until_ready();
  CAPTURE(failed(ready));
  REQUIRE(ready.ok());
  CHECK(c.view_at(1)->find(NodeId{3})->incarnation.value == 2);
  CHECK(c.view_at(1)->epoch > epoch);
  CHECK(c.heard[3].parts_loaded.back() == parts);
  CHECK(c.heard[1].lost.size() == 1);
  CHECK(c.lives_are_unique());
}

TEST_CASE("a worker that is killed again and again in the middle of its work is back within seconds each time") {
  ClusterInWorld c(21);
  REQUIRE(c.until_ready().ok());
  for (std::uint32_t kill = 1; kill <= 8; ++kill) {
    CAPTURE(kill);
    c.world.run_for(6s);
    c.world.crash(*c.world.find(NodeId{3}));
    c.world.run_for(50ms);
    const auto ready = c.until_ready(3s);
    CAPTURE(failed(ready));
    REQUIRE(ready.ok());
    CHECK(c.view_at(1)->find(NodeId{3})->incarnation.value == kill + 1);
  }
}

TEST_CASE("a disk that syncs slowly buries nobody whose life is being written down") {
  WorldOptions options;
  options.model.disk.first_sync = 300ms;
  options.model.disk.last_sync = 900ms;
  ClusterInWorld c(23, options);
  REQUIRE(c.until_ready().ok());
  for (std::uint32_t kill = 1; kill <= 6; ++kill) {  // the back-off grows beyond the time after which a node is dead
    CAPTURE(kill);
    c.world.crash(*c.world.find(NodeId{3}));
    c.world.run_for(2s);
    const auto ready = c.until_ready();
    CAPTURE(failed(ready));
    REQUIRE(ready.ok());
    CHECK(c.view_at(1)->find(NodeId{3})->incarnation.value == kill + 1);
  }
}

TEST_CASE("a worker whose life was buried before it heard of it begins another in the same process") {
  ClusterInWorld c(22);
  c.world.network().stall(kCoordinatorNode, NodeId{3}, 9s, Wire::kControl);
  const auto ready = c.until_ready();
  CAPTURE(failed(ready));
  REQUIRE(ready.ok());
  CHECK(c.heard[3].incarnation.value > 1);
  CHECK(c.lives_are_unique());
  for (std::size_t i = 0; i < c.world.process_count(); ++i) {
    CHECK_FALSE(c.world.process(static_cast<std::uint32_t>(i)).ended());
  }
}

TEST_CASE("a worker that is silent for a second is suspected and keeps its life") {
  ClusterInWorld c(4);
  REQUIRE(c.until_ready().ok());
  c.world.run_for(1s);
  const Instant paused = c.world.now();
  c.world.pause(*c.world.find(NodeId{2}), 1s);
  const auto suspected = c.world.run_until([&] { return !c.heard[1].suspected.empty(); }, "suspicion");
  REQUIRE(suspected.ok());
  CHECK(c.world.now() - paused > 400ms);
  CHECK(c.world.now() - paused < 750ms);
  CHECK(c.heard[1].suspected[0].node == NodeId{2});
  CHECK(c.heard[1].suspected[0].suspected);
  c.world.run_for(3s);
  for (const std::uint32_t w : {1u, 3u}) {
    REQUIRE(c.heard[w].suspected.size() == 2);
    CHECK_FALSE(c.heard[w].suspected[1].suspected);
    CHECK(c.heard[w].lost.empty());
  }
  CHECK(c.heard[2].suspected.empty());  // its own loop was late: it blames nobody
  CHECK(c.all_ready());
  CHECK(c.view_at(1)->find(NodeId{2})->incarnation.value == 1);
}

TEST_CASE("a worker that is silent for five seconds is declared dead, killed and replaced") {
  ClusterInWorld c(5);
  REQUIRE(c.until_ready().ok());
  c.world.run_for(1s);
  const Instant paused = c.world.now();
  SimProcess& stopped = *c.world.find(NodeId{2});
  c.world.pause(stopped, 5s);
  REQUIRE(c.world.run_until([&] { return !c.heard[1].lost.empty(); }, "the loss of worker 2").ok());
  CHECK(c.world.now() - paused > 1800ms);
  CHECK(c.world.now() - paused < 2500ms);
  c.world.run_for(50ms);  // the view that says so is the next message
  const auto ready = c.until_ready();
  CAPTURE(failed(ready));
  REQUIRE(ready.ok());
  CHECK(stopped.ended());
  CHECK(c.world.now() - paused < 5s);  // while it was still stopped
  CHECK(c.view_at(3)->find(NodeId{2})->incarnation.value == 2);
}

TEST_CASE("a worker that was buried while it slept ends itself when it wakes, also where its agent cannot reach it") {
  ClusterInWorld c(6);
  REQUIRE(c.until_ready().ok());
  c.world.run_for(1s);
  SimProcess& stopped = *c.world.find(NodeId{2});
  SimProcess& agent = *c.world.find(ClusterInWorld::agent_node(0));
  c.world.pause(agent, 8s);
  c.world.pause(stopped, 4s);
  c.world.run_for(6s);
  CHECK(stopped.ended());
  CHECK(stopped.end_reason().find("over") != std::string::npos);
  const auto ready = c.until_ready();
  CAPTURE(failed(ready));
  REQUIRE(ready.ok());
  CHECK(c.lives_are_unique());
}

TEST_CASE("without the Coordinator everything goes on, and its next term adopts the lives that beat") {
  ClusterInWorld c(7);
  REQUIRE(c.until_ready().ok());
  c.world.run_for(1s);
  const auto views = c.heard[1].views.size();
  const auto version = c.view_at(1)->version;
  c.world.crash(*c.world.find(kCoordinatorNode));
  c.world.run_for(5s);
  for (std::uint32_t w = 1; w <= 3; ++w) {
    CHECK(c.heard[w].lost.empty());
    CHECK(c.heard[w].suspected.empty());
    CHECK(c.heard[w].incarnation.value == 1);
    CHECK(c.heard[w].parts_loaded.size() == 1);
  }
  CHECK(c.all_ready());
  REQUIRE(c.world.find(kCoordinatorNode) != nullptr);
  CHECK(c.world.find(kCoordinatorNode)->loop().incarnation().value == 2);
  CHECK(c.heard[1].views.size() > views);
  CHECK((c.view_at(1)->version >> 32) == 2);
  CHECK(c.view_at(1)->version > version);
  CHECK(c.view_at(1)->epoch.value == 1);  // nothing changed
}

TEST_CASE("with the Coordinator dead for good a loss is still heard of at once") {
  WorldOptions options;
  options.restart = false;
  ClusterInWorld c(8, options);
  REQUIRE(c.until_ready().ok());
  c.world.crash(*c.world.find(kCoordinatorNode));
  c.world.run_for(2s);
  c.world.pause(*c.world.find(NodeId{2}));
  c.world.run_for(1s);
  REQUIRE(c.heard[1].suspected.size() == 1);
  CHECK(c.heard[1].suspected[0].node == NodeId{2});
  c.world.crash(*c.world.find(NodeId{3}));
  c.world.run_for(50ms);
  REQUIRE(c.heard[1].lost.size() == 1);
  CHECK(c.heard[1].lost[0].node == NodeId{3});
}

TEST_CASE("a worker that is lost while the Coordinator is away is declared dead by the next term") {
  ClusterInWorld c(9);
  REQUIRE(c.until_ready().ok());
  c.world.run_for(1s);
  c.world.crash(*c.world.find(kCoordinatorNode));
  c.world.crash(*c.world.find(NodeId{2}));
  const auto ready = c.until_ready();
  CAPTURE(failed(ready));
  REQUIRE(ready.ok());
  CHECK(c.view_at(1)->find(NodeId{2})->incarnation.value == 2);
  CHECK(c.heard[1].lost.size() == 1);
  CHECK(c.lives_are_unique());
}

TEST_CASE("a Coordinator that slept blames nobody for its own silence") {
  ClusterInWorld c(10);
  REQUIRE(c.until_ready().ok());
  c.world.run_for(1s);
  c.world.pause(*c.world.find(kCoordinatorNode), 6s);
  c.world.run_for(12s);
  CHECK(c.all_ready());
  for (std::uint32_t w = 1; w <= 3; ++w) {
    CHECK(c.heard[w].lost.empty());
    CHECK(c.heard[w].incarnation.value == 1);
  }
}

TEST_CASE("without restart a lost worker stays away and status says so") {
  WorldOptions options;
  options.restart = false;
  ClusterInWorld c(11, options);
  REQUIRE(c.until_ready().ok());
  c.world.crash(*c.world.find(NodeId{3}));
  c.world.run_for(10s);
  CHECK(c.world.find(NodeId{3}) == nullptr);
  CHECK(c.view_at(1)->find(NodeId{3})->state == NodeState::kAbsent);
  CHECK(c.view_at(1)->find(NodeId{2})->state == NodeState::kReady);
  std::optional<Outcome<ClusterStatusReport>> answer;
  c.operator_actor->send<CoordinatorProtocol>(kCoordinatorRef, ClusterStatus{}, answer);
  c.world.touch();
  c.world.run_for(1s);
  REQUIRE(answer.has_value());
  REQUIRE(answer->ok());
  CHECK((*answer)->trouble.find("worker3 ended and is not started again: signal 9") != std::string::npos);
  CHECK((*answer)->needs_operator);
  CHECK((*answer)->prediction.find("parts") != std::string::npos);
  for (const Member& member : (*answer)->view->members) CHECK(member.data_token == LinkToken{});
}

TEST_CASE("a worker answers status too, and says whether it hears the Coordinator") {
  WorldOptions options;
  options.restart = false;
  ClusterInWorld c(12, options);
  REQUIRE(c.until_ready().ok());
  c.world.run_for(1s);
  const ActorRef worker{NodeId{2}, {}, actor_id(Role::kMembership)};
  std::optional<Outcome<ClusterStatusReport>> answer;
  c.operator_actor->send<MembershipProtocol>(worker, ClusterStatus{}, answer);
  c.world.touch();
  c.world.run_for(1s);
  REQUIRE(answer.has_value());
  REQUIRE(answer->ok());
  CHECK((*answer)->coordinator_reachable);
  CHECK((*answer)->view->members.size() == 3);
  c.world.crash(*c.world.find(kCoordinatorNode));
  c.world.run_for(4s);
  c.operator_actor->send<MembershipProtocol>(worker, ClusterStatus{}, answer);
  c.world.touch();
  c.world.run_for(1s);
  REQUIRE(answer->ok());
  CHECK_FALSE((*answer)->coordinator_reachable);
}

TEST_CASE("a trace is collected from a worker") {
  ClusterInWorld c(13);
  REQUIRE(c.until_ready().ok());
  const ActorRef worker{NodeId{2}, {}, actor_id(Role::kMembership)};
  std::optional<Outcome<TraceEnabled>> enabled;
  c.operator_actor->send<MembershipProtocol>(worker, EnableTrace{{}, true}, enabled);
  c.world.touch();
  c.world.run_for(1s);
  REQUIRE(enabled.has_value());
  REQUIRE(enabled->ok());
  c.world.find(NodeId{2})->trace().record({"layer", "device", c.world.now(), 5us, 1, 2});
  std::optional<Outcome<NodeTraceEvents>> events;
  c.operator_actor->send<MembershipProtocol>(worker, CollectTrace{}, events);
  c.world.touch();
  c.world.run_for(1s);
  REQUIRE(events.has_value());
  REQUIRE(events->ok());
  CHECK((*events)->name == "worker2");
  const NodeTrace trace = unpack_trace(**events, Duration(0));
  const auto mine =
      std::find_if(trace.events.begin(), trace.events.end(), [](const auto& e) { return e.name == "layer"; });
  REQUIRE(mine != trace.events.end());
  CHECK(mine->b == 2);
}

TEST_CASE("what does not fit is not planned, and status says what is missing") {
  WorldOptions options;
  options.memory = 100'000;
  ClusterInWorld c(14, options);
  c.world.run_for(10s);
  CHECK_FALSE(c.all_ready());
  std::optional<Outcome<ClusterStatusReport>> answer;
  c.operator_actor->send<CoordinatorProtocol>(kCoordinatorRef, ClusterStatus{}, answer);
  c.world.touch();
  c.world.run_for(1s);
  REQUIRE(answer.has_value());
  REQUIRE(answer->ok());
  CHECK((*answer)->trouble.find("are missing") != std::string::npos);
  CHECK((*answer)->needs_operator);
}

TEST_CASE("a worker with other model files is refused in words") {
  WorldOptions options;
  options.odd_manifest = "another";
  options.restart = false;
  ClusterInWorld c(15, options);
  c.world.run_for(5s);
  CHECK(c.world.find(NodeId{3}) == nullptr);
  bool found = false;
  for (std::size_t i = 0; i < c.world.process_count(); ++i) {
    found |=
        c.world.process(static_cast<std::uint32_t>(i)).end_reason().find("reads another model") != std::string::npos;
  }
  CHECK(found);
  std::optional<Outcome<ClusterStatusReport>> answer;
  c.operator_actor->send<CoordinatorProtocol>(kCoordinatorRef, ClusterStatus{}, answer);
  c.world.touch();
  c.world.run_for(1s);
  REQUIRE(answer.has_value());
  REQUIRE(answer->ok());
  CHECK((*answer)->trouble.find("worker3 was refused: the node reads another model") != std::string::npos);
  CHECK((*answer)->needs_operator);
}

TEST_CASE("a node that leaves hands its parts over") {
  WorldOptions options;
  options.workers = 4;
  options.speeds = {1e9, 1e9, 1e9, 1e9};
  ClusterInWorld c(16, options);
  REQUIRE(c.until_ready().ok());
  std::optional<Outcome<LeftCluster>> answer;
  c.operator_actor->send<CoordinatorProtocol>(kCoordinatorRef, LeaveCluster{{}, NodeId{4}}, answer);
  c.world.touch();
  c.world.run_for(5s);
  REQUIRE(answer.has_value());
  REQUIRE(answer->ok());
  CHECK(c.world.find(NodeId{4}) == nullptr);
  const ClusterView& view = *c.view_at(1);
  for (const auto& [part, holders] : view.placement) {
    CHECK(holders.size() == 2);
    CHECK(std::count(holders.begin(), holders.end(), NodeId{4}) == 0);
  }
  for (const std::uint32_t w : {1u, 2u, 3u}) CHECK(view.find(NodeId{w})->state == NodeState::kReady);
  CHECK(view.find(NodeId{4})->state == NodeState::kAbsent);
  std::optional<Outcome<ClusterStatusReport>> status;
  c.operator_actor->send<CoordinatorProtocol>(kCoordinatorRef, ClusterStatus{}, status);
  c.world.touch();
  c.world.run_for(1s);
  REQUIRE(status.has_value());
  REQUIRE(status->ok());
  CHECK((*status)->trouble.empty());  // it is gone for good, as it was told to
  CHECK_FALSE((*status)->needs_operator);
  std::optional<Outcome<LeftCluster>> again;
  c.operator_actor->send<CoordinatorProtocol>(kCoordinatorRef, LeaveCluster{{}, NodeId{1}}, again);
  c.world.touch();
  c.world.run_for(1s);
  REQUIRE(again.has_value());
  CHECK(again->error().text.find("cannot be without it") != std::string::npos);
}

TEST_CASE("the last node with the trunk may not leave") {
  WorldOptions options;
  options.workers = 4;
  options.speeds = {1e9, 1e9, 1e9, 1e9};
  options.first_has_trunk = false;
  ClusterInWorld c(19, options);
  REQUIRE(c.until_ready().ok());
  std::optional<Outcome<LeftCluster>> answer;
  c.operator_actor->send<CoordinatorProtocol>(kCoordinatorRef, LeaveCluster{{}, NodeId{2}}, answer);
  c.world.touch();
  c.world.run_for(2s);
  REQUIRE(answer.has_value());
  REQUIRE_FALSE(answer->ok());
  CHECK(answer->error().text.find("the last one here with the role trunk") != std::string::npos);
  CHECK(c.world.find(NodeId{2}) != nullptr);
}

TEST_CASE("a worker tells its figures under its life, also where it counts nothing") {
  ClusterInWorld c(20);
  REQUIRE(c.until_ready().ok());
  std::optional<Outcome<NodeFiguresRead>> answer;
  c.operator_actor->send<MembershipProtocol>({NodeId{2}, {}, actor_id(Role::kMembership)}, ReadFigures{}, answer);
  c.world.touch();
  c.world.run_for(1s);
  REQUIRE(answer.has_value());
  REQUIRE(answer->ok());
  CHECK((*answer)->figures.node == NodeId{2});
  CHECK((*answer)->figures.incarnation == c.heard[2].incarnation);
  CHECK((*answer)->figures.numbers.empty());
}

TEST_CASE("shutdown ends workers, Coordinator and agent") {
  ClusterInWorld c(17);
  REQUIRE(c.until_ready().ok());
  std::optional<Outcome<ShuttingDown>> answer;
  c.operator_actor->send<NodeAgentProtocol>({ClusterInWorld::agent_node(0), {}, actor_id(Role::kNodeAgent)}, Shutdown{},
                                            answer);
  c.world.touch();
  c.world.run_for(2s);
  REQUIRE(answer.has_value());
  CHECK(answer->ok());
  for (const NodeId node : {NodeId{1}, NodeId{2}, NodeId{3}, kCoordinatorNode, ClusterInWorld::agent_node(0)}) {
    CHECK(c.world.find(node) == nullptr);
  }
}

TEST_CASE("a data wire that breaks between two living workers is made again") {
  ClusterInWorld c(18);
  REQUIRE(c.until_ready().ok());
  c.world.run_for(1s);
  c.world.network().break_between(NodeId{1}, NodeId{2}, {5ms, 5ms}, Wire::kData);
  c.world.run_for(3s);
  CHECK(c.world.find(NodeId{1})->data().connected(NodeId{2}));
  CHECK(c.world.find(NodeId{2})->data().connected(NodeId{1}));
  CHECK(c.heard[1].lost.empty());
  CHECK(c.heard[2].lost.empty());
  // Routers go around it as long as the wire is down.
  for (const std::uint32_t w : {1u, 2u}) {
    REQUIRE(c.heard[w].suspected.size() == 2);
    CHECK(c.heard[w].suspected[0].suspected);
    CHECK_FALSE(c.heard[w].suspected[1].suspected);
  }
  CHECK(c.heard[3].suspected.empty());
  CHECK(c.all_ready());
}

TEST_CASE("a data wire that breaks without a word is made again after some suspicion") {
  ClusterInWorld c(19);
  REQUIRE(c.until_ready().ok());
  c.world.run_for(1s);
  c.world.network().break_between(NodeId{1}, NodeId{2}, {std::nullopt, std::nullopt}, Wire::kData);
  c.world.run_for(1s);
  CHECK(c.heard[1].suspected.size() == 1);
  c.world.run_for(10s);
  CHECK(c.heard[1].suspected.size() == 2);
  CHECK(c.heard[2].suspected.size() == 2);
  CHECK(c.heard[1].lost.empty());
  CHECK(c.all_ready());
}

TEST_CASE("a Coordinator crash at any event of the start gives no life twice") {
  std::uint64_t events = 0;
  {
    ClusterInWorld calm(20);
    REQUIRE(calm.until_ready().ok());
    events = calm.world.event_count();
  }
  for (std::uint64_t at = 5; at < events; at += 7) {
    CAPTURE(at);
    ClusterInWorld c(20);
    c.world.at_event(at, [&] {
      if (SimProcess* coordinator = c.world.find(kCoordinatorNode)) c.world.crash(*coordinator);
    });
    const auto ready = c.until_ready();
    CAPTURE(failed(ready));
    REQUIRE(ready.ok());
    CHECK(c.lives_are_unique());
    for (std::uint32_t w = 1; w <= 3; ++w) CHECK(c.heard[w].incarnation.value == 1);
  }
}

TEST_CASE("random crashes and pauses end in a whole cluster, by seed") {
  for (std::uint64_t seed = 100; seed < 140; ++seed) {
    CAPTURE(seed);
    ClusterInWorld c(seed);
    REQUIRE(c.until_ready().ok());
    Rng chance(seed);
    for (int fault = 0; fault < 4; ++fault) {
      c.world.run_for(Duration(static_cast<std::int64_t>(chance.below(3'000'000'000))));
      const auto victim = chance.below(4);
      SimProcess* process = c.world.find(victim == 0 ? kCoordinatorNode : NodeId{static_cast<std::uint32_t>(victim)});
      if (process == nullptr) continue;
      switch (chance.below(3)) {
        case 0:
          c.world.crash(*process);
          break;
        case 1:
          c.world.pause(*process, 1s);
          break;
        default:
          c.world.pause(*process, 5s);
      }
    }
    const auto ready = c.until_ready(120s);
    CAPTURE(failed(ready));
    REQUIRE(ready.ok());
    c.world.run_for(10s);
    CHECK(c.all_ready());
    CHECK(c.lives_are_unique());
    for (std::uint32_t w = 2; w <= 3; ++w) {
      CHECK(c.view_at(w)->version == c.view_at(1)->version);
      CHECK(c.view_at(w)->placement == c.view_at(1)->placement);
    }
  }
}

TEST_CASE("two runs of a seed are one") {
  const auto hash = [](std::uint64_t seed) {
    ClusterInWorld c(seed);
    (void)c.until_ready();
    c.world.crash(*c.world.find(NodeId{2}));
    c.world.run_for(5s);
    return c.world.trace_hash();
  };
  CHECK(hash(30) == hash(30));
  CHECK(hash(30) != hash(31));
}

}  // namespace
