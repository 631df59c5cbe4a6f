// The pure pieces: replica choice, pace and budget of a peer, cuts of steps, plans of steps, ledgers of pages.
#include "support/test.hpp"

#include <algorithm>

#include "actors/experts/peer_pace.hpp"
#include "actors/experts/replica_choice.hpp"
#include "actors/serving/micro_batch.hpp"
#include "actors/serving/page_ledger.hpp"
#include "actors/serving/step_plan.hpp"

using namespace consort;
using namespace consort::actors;
using namespace std::chrono_literals;
using runtime::NodeId;

namespace {

constexpr NodeId kA{1}, kB{2}, kC{3};

std::vector<std::optional<std::size_t>> choose(const std::vector<std::vector<NodeId>>& replicas,
                                               std::map<NodeId, ReplicaNode> nodes, double bytes = 1e6) {
  std::vector<PartToPlace> parts;
  for (const auto& of : replicas) parts.push_back({bytes, of});
  return choose_replicas(parts, nodes);
}

std::vector<StepSequence> sequences_of(const std::vector<std::uint32_t>& rows) {
  std::vector<StepSequence> sequences(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) sequences[i].tokens.resize(rows[i]);
  return sequences;
}

}  // namespace

TEST_CASE("a fast node gets more of the parts that both hold") {
  std::map<NodeId, ReplicaNode> nodes;
  nodes[kA].bytes_per_second = 3e9;
  nodes[kB].bytes_per_second = 1e9;
  const auto chosen = choose(std::vector<std::vector<NodeId>>(8, {kA, kB}), nodes);
  const auto at_a = std::ranges::count(chosen, std::optional<std::size_t>(0));
  CHECK(at_a == 6);
}

TEST_CASE("parts with one replica choose first, so that the others go around them") {
  std::map<NodeId, ReplicaNode> nodes;
  nodes[kA] = {};
  nodes[kB] = {};
  const auto chosen = choose({{kA, kB}, {kA}, {kA, kB}, {kA}}, nodes);
  CHECK(chosen[0] == std::optional<std::size_t>(1));
  CHECK(chosen[2] == std::optional<std::size_t>(1));
}

TEST_CASE("a node that is visited anyway is preferred to a further one") {
  std::map<NodeId, ReplicaNode> nodes;
  nodes[kA].delay_seconds = 100e-6;
  nodes[kB].delay_seconds = 100e-6;
  const auto chosen = choose({{kB}, {kA, kB}}, nodes, 1000);
  CHECK(chosen[1] == std::optional<std::size_t>(1));
}

TEST_CASE("a part without replicas gets none") {
  std::map<NodeId, ReplicaNode> nodes;
  nodes[kA] = {};
  const auto chosen = choose({{}, {kA}}, nodes);
  CHECK_FALSE(chosen[0].has_value());
  CHECK(chosen[1].has_value());
}

TEST_CASE("late is four times the 99th percentile, at least 50 ms, and nothing is late before the peer is known") {
  PeerPace pace;
  CHECK(pace.late_after() == 1s);
  for (int i = 0; i < 8; ++i) pace.note_answer(1ms);
  CHECK(pace.late_after() == 50ms);
  for (int i = 0; i < 128; ++i) pace.note_answer(30ms);
  CHECK(pace.late_after() == 120ms);
}

TEST_CASE("hedges stay within 5 percent of a second's dispatches, and one is always allowed") {
  PeerPace pace;
  runtime::Instant now{10s};
  pace.note_dispatch(now);
  CHECK(pace.take_hedge(now));
  CHECK_FALSE(pace.take_hedge(now));
  now += 1s;
  CHECK(pace.take_hedge(now));
  now += 1s;
  for (int i = 0; i < 100; ++i) pace.note_dispatch(now);
  int taken = 0;
  while (pace.take_hedge(now)) ++taken;
  CHECK(taken == 5);
}

TEST_CASE("a step is cut between sequences where they balance, and inside one only where each piece is worth it") {
  const auto cut = [](const std::vector<std::uint32_t>& rows, int count, std::uint32_t min_rows) {
    return cut_step(sequences_of(rows), count, min_rows);
  };
  const auto two = cut({1, 1, 1, 1}, 2, 32);
  REQUIRE(two.size() == 2);
  CHECK(two[0].slices == std::vector<SequenceSlice>{{0, 0, 1}, {1, 0, 1}});
  CHECK_FALSE(two[1].follows_previous);

  CHECK(cut({1}, 2, 32).size() == 1);
  CHECK(cut({63}, 2, 32).size() == 1);
  const auto halves = cut({128}, 2, 32);
  REQUIRE(halves.size() == 2);
  CHECK(halves[0].slices == std::vector<SequenceSlice>{{0, 0, 64}});
  CHECK(halves[1].slices == std::vector<SequenceSlice>{{0, 64, 64}});
  CHECK(halves[1].follows_previous);

  const auto mixed = cut({1, 128, 1}, 2, 32);
  REQUIRE(mixed.size() == 2);
  CHECK(mixed[0].slices == std::vector<SequenceSlice>{{0, 0, 1}, {1, 0, 64}});
  CHECK(mixed[1].slices == std::vector<SequenceSlice>{{1, 64, 64}, {2, 0, 1}});

  // Every cut covers every row once, in order.
  for (const auto& rows : std::vector<std::vector<std::uint32_t>>{{5}, {40, 3}, {1, 2, 3, 90}, {64, 64}, {7, 7, 7}}) {
    for (int count = 1; count <= 4; ++count) {
      std::vector<std::uint32_t> seen(rows.size(), 0);
      for (const MicroBatchPlan& plan : cut(rows, count, 8)) {
        CHECK_FALSE(plan.slices.empty());
        for (const SequenceSlice& slice : plan.slices) {
          CHECK(slice.first_row == seen[slice.sequence]);
          CHECK(slice.row_count > 0);
          seen[slice.sequence] += slice.row_count;
        }
      }
      CHECK(seen == rows);
    }
  }
}

TEST_CASE("decode rows come before prompts, prompts share the chunk, oldest first") {
  const std::vector<StepCandidate> candidates = {{0, 100}, {10, 11}, {0, 60}, {5, 6}};
  CHECK(plan_step(candidates, 128, 64) == std::vector<PlannedRows>{{0, 100}, {1, 1}, {2, 28}, {3, 1}});
  CHECK(plan_step(candidates, 50, 64) == std::vector<PlannedRows>{{0, 50}, {1, 1}, {3, 1}});
  CHECK(plan_step(candidates, 128, 2) == std::vector<PlannedRows>{{1, 1}, {3, 1}});
  CHECK(plan_step({}, 128, 64).empty());
}

TEST_CASE("pages are handed out lowest first and come back with the last reference") {
  auto ledger = std::make_shared<PageLedger>(4);
  PageLease first(ledger, ledger->allocate(3));
  CHECK(first.pages() == std::vector<std::uint32_t>{0, 1, 2});
  CHECK(ledger->allocate(2).empty());
  PageLease in_step = first.again();
  first.release();
  CHECK(ledger->used() == 3);  // the step still reads them
  in_step = PageLease();
  CHECK(ledger->used() == 0);
  const PageLease second(ledger, ledger->allocate(2));
  CHECK(second.pages() == std::vector<std::uint32_t>{0, 1});
}
