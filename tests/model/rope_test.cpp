#include "support/test.hpp"

#include <cmath>

#include "model/rope.hpp"

using namespace consort::model;

namespace {

constexpr double kF32 = 1.2e-7;  // half a unit in the last place of F32, and the ten digits of the tables

ModelConfig with(double theta, double factor, double beta_fast, double mscale) {
  ModelConfig c;
  c.qk_nope_head_dim = 128;
  c.qk_rope_head_dim = 64;
  c.rope_theta = theta;
  if (factor > 0) c.rope_scaling = RopeScaling{factor, 4096.0, beta_fast, 1.0, mscale, mscale, {}};
  return c;
}

void expect(const Rope& rope, std::vector<std::pair<std::size_t, double>> values) {
  for (const auto& [i, value] : values) {
    CAPTURE(i);
    CHECK(double{rope.inverse_frequencies()[i]} / value == doctest::Approx(1.0).epsilon(kF32));
  }
}

}  // namespace

TEST_CASE("YaRN frequencies and softmax scales of the released models") {
  const Rope v3(with(1e4, 40, 32, 1.0));
  REQUIRE(v3.inverse_frequencies().size() == 32);
  expect(v3, {{0, 1.0},
              {1, 0.7498942093},
              {9, 0.07498942093},
              {10, 0.05623413252},
              {11, 0.03900692657},
              {12, 0.02687936011},
              {15, 8.334508951e-3},
              {16, 5.5e-3},
              {17, 3.561997494e-3},
              {22, 1.778279410e-4},
              {23, 3.333803580e-5},
              {31, 3.333803580e-6}});
  CHECK(double{v3.softmax_scale()} == doctest::Approx(0.135233778860880).epsilon(kF32));
  CHECK(double{Rope(with(1e4, 40, 32, 0.707)).softmax_scale()} == doctest::Approx(0.114721386792926).epsilon(kF32));

  const Rope k2(with(5e4, 32, 1, 1.0));
  expect(k2, {{0, 1.0},
              {1, 0.7131110849},
              {16, 4.472135955e-3},
              {19, 1.621759908e-3},
              {20, 3.614046774e-5},
              {31, 8.764412912e-7}});
  CHECK(double{k2.softmax_scale()} == doctest::Approx(0.130860799962950).epsilon(kF32));

  const Rope moonlight(with(5e4, 0, 0, 0));
  expect(moonlight, {{0, 1.0}, {2, 0.5085274194}, {16, 4.472135955e-3}, {31, 2.804612132e-5}});
  CHECK(double{moonlight.softmax_scale()} == doctest::Approx(0.072168783648703).epsilon(kF32));
}

TEST_CASE("angles are the F32 product of position and frequency") {
  const Rope rope(with(1e4, 40, 32, 1.0));
  std::vector<float> cos(32), sin(32);
  rope.angles(0, cos, sin);
  CHECK(cos[5] == 1.0F);
  CHECK(sin[5] == 0.0F);
  rope.angles(100000, cos, sin);
  for (std::size_t i = 0; i < 32; ++i) {
    const double angle = double{100000.0F * rope.inverse_frequencies()[i]};
    CHECK(double{cos[i]} == doctest::Approx(std::cos(angle)).epsilon(kF32));
    CHECK(double{sin[i]} == doctest::Approx(std::sin(angle)).epsilon(kF32));
  }
}

TEST_CASE("YaRN's attention factor scales cosine and sine where mscale is not given") {
  ModelConfig c = with(1e4, 40, 32, 0.0);
  std::vector<float> cos(32), sin(32);
  Rope(c).angles(0, cos, sin);
  CHECK(double{cos[0]} == doctest::Approx(1.368887945411).epsilon(kF32));
  c.rope_scaling->attention_factor = 2.0;
  Rope(c).angles(0, cos, sin);
  CHECK(cos[0] == 2.0F);
}
