#include "support/test.hpp"

#include <limits>

#include "model/gate.hpp"
#include "model/matrix.hpp"

using namespace consort;
using namespace consort::model;

namespace {

constexpr double kClose = 2e-7;  // one F32 rounding of values below 1, with room for the sum

Routes choose(std::vector<float> logits, std::vector<float> bias, TopkMethod method, std::int64_t groups,
              std::int64_t kept, std::int64_t top_k, double scale, bool norm) {
  ModelConfig c;
  c.n_routed_experts = static_cast<std::int64_t>(logits.size());
  c.n_group = groups;
  c.topk_group = kept;
  c.num_experts_per_tok = top_k;
  c.routed_scaling_factor = scale;
  c.norm_topk_prob = norm;
  c.topk_method = method;
  Routes routes;
  choose_experts(routes, c, matrix_view(logits.data(), 1, c.n_routed_experts), bias);
  return routes;
}

void expect(const Routes& routes, std::vector<std::uint32_t> experts, std::vector<double> weights) {
  CHECK(routes.experts == experts);
  REQUIRE(routes.weights.size() == weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i)
    CHECK(double{routes.weights[i]} == doctest::Approx(weights[i]).epsilon(kClose));
}

}  // namespace

TEST_CASE("the noaux_tc gate chooses with the bias and weighs without it") {
  expect(choose({2, -1, 0.5F, 0, 1, 1.5F, -0.5F, 3}, {0, 0.3F, -0.1F, 0.2F, 0, -0.2F, 0.4F, -0.6F},
                TopkMethod::kNoauxTc, 4, 2, 3, 2.5, true),
         {0, 4, 5}, {0.906382392, 0.752294302, 0.841323306});
}

TEST_CASE("the gate never leaves the chosen groups, even where every score is negative") {
  expect(choose({-2, -3, -2.5F, -3.5F, -4, -4.5F, -5, -6}, std::vector<float>(8, -0.5F), TopkMethod::kNoauxTc, 4, 2, 3,
                1.0, true),
         {0, 1, 2}, {0.4915848446, 0.1955811158, 0.3128340397});
}

TEST_CASE("groups are ranked by their two best in V3 and by their best in V2") {
  const std::vector<float> logits{4, -4, 1, 1, 0.9F, 0.8F, -1, -1};
  CHECK(choose(logits, std::vector<float>(8, 0.0F), TopkMethod::kNoauxTc, 4, 1, 2, 1.0, true).experts ==
        std::vector<std::uint32_t>{2, 3});
  expect(choose(logits, {}, TopkMethod::kGroupLimitedGreedy, 4, 2, 3, 16.0, false), {0, 2, 3},
         {13.342262646, 0.664272143, 0.664272143});
  expect(choose(logits, {}, TopkMethod::kGreedy, 1, 1, 3, 1.0, false), {0, 2, 3},
         {0.833891415, 0.041517009, 0.041517009});
}

TEST_CASE("ties go to the lower index, in groups and in experts") {
  const std::vector<float> same(8, 0.25F);
  CHECK(choose(same, std::vector<float>(8, 0.0F), TopkMethod::kNoauxTc, 4, 2, 3, 1.0, true).experts ==
        std::vector<std::uint32_t>{0, 1, 2});
  CHECK(choose({1, 2, 2, 2}, {}, TopkMethod::kGreedy, 1, 1, 2, 1.0, false).experts == std::vector<std::uint32_t>{1, 2});
}

TEST_CASE("a NaN among the logits still gives top_k different experts") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto routes = choose({nan, nan, nan, nan, nan, nan, nan, nan}, std::vector<float>(8, 0.0F),
                             TopkMethod::kNoauxTc, 4, 2, 3, 1.0, true);
  CHECK(routes.experts == std::vector<std::uint32_t>{0, 1, 2});
}

TEST_CASE("assignments are grouped by expert and leave dropped rows out") {
  Routes routes{2, 2, {1, 5, 0, 5}, {1, 1, 1, 1}};
  const auto all = by_expert(routes);
  REQUIRE(all.size() == 4);
  CHECK(all[0].expert == 0);
  CHECK(all[0].token == 1);
  CHECK(all[2].expert == 5);
  CHECK(all[2].token == 0);
  CHECK(all[2].k == 1);
  CHECK(all[3].token == 1);
  const std::vector<std::uint8_t> alive{0, 1};
  const auto some = by_expert(routes, alive);
  REQUIRE(some.size() == 2);
  CHECK(some[0].token == 1);
  CHECK(some[1].token == 1);
}
