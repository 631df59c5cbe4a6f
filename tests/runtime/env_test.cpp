#include "runtime/env.hpp"

#include <array>
#include <cmath>

#include "support/test.hpp"

namespace consort::runtime {
namespace {

TEST_CASE("Rng is SplitMix64 with its published first outputs") {
  Rng rng(1234567);
  CHECK(rng.next() == 6457827717110365317u);
  CHECK(rng.next() == 3203168211198807973u);
  CHECK(rng.next() == 9817491932198370423u);
}

TEST_CASE("Rng draws evenly below a bound and in the unit interval") {
  Rng rng(3);
  std::array<int, 7> counts{};
  for (int i = 0; i < 70000; ++i) ++counts[rng.below(7)];
  // 10,000 expected each, standard deviation 93: five of them.
  for (const int count : counts) CHECK(std::abs(count - 10000) < 465);
  double sum = 0;
  for (int i = 0; i < 10000; ++i) {
    const double draw = rng.unit();
    REQUIRE(draw >= 0.0);
    REQUIRE(draw < 1.0);
    sum += draw;
  }
  CHECK(std::abs(sum / 10000 - 0.5) < 0.0145);  // five standard deviations of the mean
  CHECK(rng.below(1) == 0);
}

}  // namespace
}  // namespace consort::runtime
