// SPDX-License-Identifier: Apache-2.0
#include "cluster/planner.hpp"

#include <algorithm>
#include <set>

#include "runtime/env.hpp"
#include "support/test.hpp"

namespace {

using namespace consort::cluster;
using namespace consort::runtime;

constexpr std::uint64_t kPlenty = std::uint64_t{1} << 40;

PlanModel small_model(std::uint32_t layers, std::uint32_t experts, std::uint32_t columns = 256,
                      std::uint32_t unit = 16) {
  PlanModel model;
  for (std::uint32_t i = 0; i < layers; ++i) model.expert_layers.push_back(i + 1);
  model.n_routed_experts = experts;
  model.num_experts_per_tok = std::min(experts, 4u);
  model.moe_intermediate_size = columns;
  model.column_unit = unit;
  model.hidden_size = 128;
  model.part_bytes = [](const PartId& part) { return std::uint64_t{part.column_count} * 3 * 128 * 2; };
  return model;
}
PlanNode node(std::uint32_t id, double speed, std::uint64_t memory = kPlenty, std::uint64_t trunk = 0) {
  return {NodeId{id}, "node" + std::to_string(id), {speed, memory, trunk, 1e-4, 1e9}};
}
std::uint64_t bytes_on(const PlanModel& model, const Plan& plan, std::uint32_t id) {
  std::uint64_t bytes = 0;
  for (const auto& [part, holders] : plan.placement) {
    if (std::count(holders.begin(), holders.end(), NodeId{id}) != 0) bytes += model.part_bytes(part);
  }
  return bytes;
}

// What holds for every plan: each part as often as asked, on different nodes that were offered, within memory.
void check_sound(const PlanRequest& request, const Plan& plan) {
  std::map<NodeId, std::uint64_t> held;
  for (const auto& [part, holders] : plan.placement) {
    CHECK(holders.size() == request.replicas);
    CHECK(std::set<NodeId>(holders.begin(), holders.end()).size() == holders.size());
    for (const auto holder : holders) held[holder] += request.model.part_bytes(part);
  }
  for (const auto& [id, bytes] : held) {
    const auto at =
        std::find_if(request.nodes.begin(), request.nodes.end(), [&](const auto& n) { return n.node == id; });
    REQUIRE(at != request.nodes.end());
    CHECK(bytes + at->profile.trunk_bytes <= at->profile.memory_bytes);
  }
  std::uint32_t next = 0;
  for (const auto& columns : plan.numeric.cut) {
    CHECK(columns.first == next);
    CHECK(columns.count > 0);
    next += columns.count;
  }
  CHECK(next == request.model.moe_intermediate_size);
  CHECK(plan.placement.size() ==
        request.model.expert_layers.size() * request.model.n_routed_experts * plan.numeric.cut.size());
}

TEST_CASE("a node of a third of the speed gets a third of the bytes") {
  for (const auto mode : {ColumnMode{ColumnMode::Kind::kNever, 1}, ColumnMode{ColumnMode::Kind::kAuto, 1},
                          ColumnMode{ColumnMode::Kind::kFixed, 4}}) {
    for (const std::uint32_t experts : {8u, 16u, 64u, 256u}) {
      PlanRequest request{small_model(2, experts), {node(1, 3e9), node(2, 1e9)}, 1, mode, {}, {}};
      const auto plan = make_plan(request);
      REQUIRE(plan.ok());
      check_sound(request, *plan);
      const double ratio = static_cast<double>(bytes_on(request.model, *plan, 2)) /
                           static_cast<double>(bytes_on(request.model, *plan, 1));
      CHECK(ratio >= 0.28);
      CHECK(ratio <= 0.40);
    }
  }
}

TEST_CASE("with three nodes the slow one gets a third of a fast one's bytes") {
  PlanRequest request{small_model(4, 32), {node(1, 3e9), node(2, 1e9), node(3, 3e9)}, 1, {}, {}, {}};
  const auto plan = make_plan(request);
  REQUIRE(plan.ok());
  const double slow = static_cast<double>(bytes_on(request.model, *plan, 2));
  for (const std::uint32_t fast : {1u, 3u}) {
    const double ratio = slow / static_cast<double>(bytes_on(request.model, *plan, fast));
    CHECK(ratio >= 0.28);
    CHECK(ratio <= 0.40);
  }
}

TEST_CASE("with two replicas no part has both on one node") {
  PlanRequest request{small_model(3, 16), {node(1, 3e9), node(2, 1e9), node(3, 2e9)}, 2, {}, {}, {}};
  const auto plan = make_plan(request);
  REQUIRE(plan.ok());
  check_sound(request, *plan);
}

TEST_CASE("each layer is spread, not only the sum") {
  PlanRequest request{
      small_model(6, 64), {node(1, 2e9), node(2, 1e9), node(3, 1e9)}, 1, {ColumnMode::Kind::kNever, 1}, {}, {}};
  const auto plan = make_plan(request);
  REQUIRE(plan.ok());
  std::map<std::pair<std::uint32_t, std::uint32_t>, int> count;
  for (const auto& [part, holders] : plan->placement) ++count[{part.layer, holders.front().value}];
  for (const auto layer : request.model.expert_layers) {
    CHECK(std::abs(count[{layer, 1}] - 32) <= 2);
    CHECK(std::abs(count[{layer, 2}] - 16) <= 2);
    CHECK(std::abs(count[{layer, 3}] - 16) <= 2);
  }
}

TEST_CASE("plans hold for any speeds, sizes, memory and replicas") {
  int planned = 0;
  int refused = 0;
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    const auto columns = static_cast<std::uint32_t>(64 * (1 + rng.below(8)) + (rng.below(3) == 0 ? 8 : 0));
    PlanRequest request;
    request.model = small_model(static_cast<std::uint32_t>(1 + rng.below(4)),
                                static_cast<std::uint32_t>(4 + rng.below(60)), columns, 16);
    const auto uniform = rng.below(2) == 0;
    if (!uniform) {  // layers of different dtype
      request.model.part_bytes = [](const PartId& part) {
        return std::uint64_t{part.column_count} * 384 * (1 + part.layer % 3) + 100 * (part.layer % 2);
      };
    }
    const auto n = static_cast<std::uint32_t>(1 + rng.below(6));
    request.replicas = static_cast<std::uint32_t>(1 + rng.below(std::min(3u, n)));
    const auto kind = rng.below(3);
    request.columns = kind == 0   ? ColumnMode{ColumnMode::Kind::kAuto, 1}
                      : kind == 1 ? ColumnMode{ColumnMode::Kind::kNever, 1}
                                  : ColumnMode{ColumnMode::Kind::kFixed, static_cast<std::uint32_t>(1 + rng.below(4))};
    std::uint64_t once = 0;
    for (const auto layer : request.model.expert_layers) {
      once += request.model.n_routed_experts * request.model.part_bytes(PartId{layer, 1, 0, 0, columns});
    }
    for (std::uint32_t i = 1; i <= n; ++i) {
      const double fraction = 0.2 + 1.6 * rng.unit();
      const auto memory = static_cast<std::uint64_t>(static_cast<double>(once) * request.replicas / n * fraction);
      request.nodes.push_back(node(i, 1e8 * (1 + 20 * rng.unit()), memory + 5000, 5000));
    }
    const auto plan = make_plan(request);
    if (plan.ok()) {
      ++planned;
      check_sound(request, *plan);
      CHECK(plan->forecast.worst_load_seconds >= plan->forecast.best_load_seconds * 0.999);
      continue;
    }
    ++refused;
    CHECK(plan.error().kind == ErrorKind::kInvalid);
    CHECK(plan.error().text.find("bytes") != std::string::npos);
    // Whole parts of one size that do fit by count must have been placed.
    if (uniform && request.columns.kind == ColumnMode::Kind::kNever) {
      const auto part = request.model.part_bytes(PartId{1, 1, 0, 0, columns});
      const auto parts = once / part;
      std::uint64_t places = 0;
      for (const auto& one : request.nodes) {
        places += std::min(parts, (one.profile.memory_bytes - one.profile.trunk_bytes) / part);
      }
      CHECK(places < parts * request.replicas);
    }
  }
  CHECK(planned > 100);
  CHECK(refused > 50);
}

TEST_CASE("what cannot fit is refused with what is missing") {
  const auto model = small_model(1, 8);
  const std::uint64_t expert = model.part_bytes(PartId{1, 1, 0, 0, 256});
  PlanRequest request{model, {node(1, 1e9, 3 * expert), node(2, 1e9, 4 * expert)}, 1, {}, {}, {}};
  const auto plan = make_plan(request);
  REQUIRE_FALSE(plan.ok());
  CHECK(plan.error().text.find("need") != std::string::npos);
  CHECK(plan.error().text.find("(" + std::to_string(expert) + " bytes) are missing") != std::string::npos);
  CHECK(plan.error().text.find("node1") != std::string::npos);
  request.replicas = 3;
  CHECK(make_plan(request).error().text.find("3 replicas need as many experts nodes, there are 2") !=
        std::string::npos);
}

TEST_CASE("memory, not speed, decides where memory is short") {
  const auto model = small_model(1, 16);
  const std::uint64_t expert = model.part_bytes(PartId{1, 1, 0, 0, 256});
  PlanRequest request{model, {node(1, 10e9, 5 * expert), node(2, 1e9)}, 1, {ColumnMode::Kind::kNever, 1}, {}, {}};
  const auto plan = make_plan(request);
  REQUIRE(plan.ok());
  CHECK(bytes_on(model, *plan, 1) == 5 * expert);
  CHECK(bytes_on(model, *plan, 2) == 11 * expert);
}

TEST_CASE("a decided cut is kept whatever the mode says") {
  PlanRequest request{small_model(2, 8), {node(1, 1e9), node(2, 1e9)}, 1, {ColumnMode::Kind::kNever, 1}, {}, {}};
  request.numeric_plan = NumericPlan{};
  request.numeric_plan->cut = {{0, 64}, {64, 192}};
  const auto plan = make_plan(request);
  REQUIRE(plan.ok());
  CHECK(plan->numeric == *request.numeric_plan);
  request.numeric_plan->cut = {{0, 64}};
  CHECK(make_plan(request).error().text.find("another width") != std::string::npos);
}

TEST_CASE("with an existing placement only what must move moves") {
  PlanRequest request{small_model(2, 24), {node(1, 3e9), node(2, 1e9), node(3, 2e9)}, 2, {}, {}, {}};
  const auto before = make_plan(request);
  REQUIRE(before.ok());
  request.numeric_plan = before->numeric;
  request.existing = before->placement;
  const auto same = make_plan(request);
  REQUIRE(same.ok());
  for (const auto& [part, holders] : before->placement) {
    const auto& now = same->placement.at(part);
    CHECK(std::set<NodeId>(now.begin(), now.end()) == std::set<NodeId>(holders.begin(), holders.end()));
  }
  request.nodes.pop_back();  // node 3 left
  const auto after = make_plan(request);
  REQUIRE(after.ok());
  check_sound(request, *after);
  for (const auto& [part, holders] : before->placement) {
    for (const auto holder : holders) {
      const auto& now = after->placement.at(part);
      if (holder != NodeId{3}) CHECK(std::count(now.begin(), now.end(), holder) == 1);
    }
  }
}

TEST_CASE("auto cuts where it gains and not where it does not") {
  auto model = small_model(2, 8, 512, 128);
  model.num_experts_per_tok = 2;
  // Four equal nodes, links that cost nothing beside the experts: balance wins.
  PlanRequest request{model, {node(1, 1e8), node(2, 1e8), node(3, 1e8), node(4, 1e8)}, 1, {}, {}, {}};
  for (auto& one : request.nodes) one.profile.link_delay_seconds = 1e-6;
  const auto cut = make_plan(request);
  REQUIRE(cut.ok());
  CHECK(cut->numeric.cut.size() > 1);
  // Links that cost far more than the experts: nothing to win.
  for (auto& one : request.nodes) one.profile.link_delay_seconds = 0.5;
  const auto whole = make_plan(request);
  REQUIRE(whole.ok());
  CHECK(whole->numeric.cut.size() == 1);
  // One node has nobody to share with.
  request.nodes.resize(1);
  CHECK(make_plan(request)->numeric.cut.size() == 1);
}

TEST_CASE("a forecast asks the replica that would end first, and the trunk's own node without a journey") {
  // So fast that only journeys count.
  PlanRequest request{
      small_model(2, 8), {node(1, 1e12), node(2, 1e12), node(3, 1e12)}, 2, {ColumnMode::Kind::kNever, 1}, {}, {}};
  for (auto& one : request.nodes) one.profile.link_delay_seconds = 1e-3;
  const auto all_remote = make_plan(request)->forecast.expert_seconds_per_token;
  CHECK(all_remote >= 2 * 2e-3);  // two layers, a way there and back each
  request.nodes[0].profile.trunk_bytes = 1;
  const auto with_trunk = make_plan(request)->forecast.expert_seconds_per_token;
  CHECK(with_trunk < all_remote);
  // Whoever holds everything needs nobody.
  request.replicas = 3;
  const auto at_home = make_plan(request)->forecast.expert_seconds_per_token;
  CHECK(at_home < 1e-3);
}

TEST_CASE("a plan says what it predicts") {
  PlanRequest request{small_model(2, 8), {node(1, 3e9), node(2, 1e9)}, 1, {ColumnMode::Kind::kNever, 1}, {}, {}};
  const auto plan = make_plan(request);
  REQUIRE(plan.ok());
  const PlanForecast& forecast = plan->forecast;
  CHECK(forecast.nodes[0].byte_share + forecast.nodes[1].byte_share == doctest::Approx(1));
  CHECK(forecast.nodes[0].load_seconds == doctest::Approx(static_cast<double>(forecast.nodes[0].part_bytes) / 3e9));
  CHECK(forecast.expert_seconds_per_token > 0);
  CHECK(forecast.sentence.find("node1 holds 12 (75 %)") != std::string::npos);
  // The same request gives the same plan.
  CHECK(make_plan(request)->placement == plan->placement);
}

TEST_CASE("cuts are near-equal ranges of whole units") {
  const auto cut = cut_columns(2048, 128, 3);
  REQUIRE(cut.ok());
  CHECK((*cut)[0].count == 768);
  CHECK((*cut)[1].count == 640);
  CHECK((*cut)[2].count == 640);
  CHECK((*cut_columns(200, 16, 4)).back().count == 56);  // 3 units and the 8 columns that are no unit
  CHECK_FALSE(cut_columns(256, 128, 3).ok());
  CHECK_FALSE(cut_columns(256, 128, 0).ok());
  CHECK(cut_columns(100, 128, 1).ok());
}

}  // namespace
