// Accuracy of the project's own functions, against the platform's in higher precision.
#include "kernels/scalar_math.hpp"

#include <vector>

#include "kernels/vector.hpp"
#include "reference.hpp"
#include "support/test.hpp"

namespace consort::tests {
namespace {

// Distance in units of the last place of the exact value's double.
double ulps(double value, long double exact) {
  const double nearest = static_cast<double>(exact);
  const double unit = std::nextafter(std::abs(nearest), INFINITY) - std::abs(nearest);
  return static_cast<double>(std::abs((static_cast<long double>(value) - exact) / static_cast<long double>(unit)));
}

double float_ulps(float value, double exact) {
  const float nearest = static_cast<float>(exact);
  const float unit = std::nextafter(std::abs(nearest), INFINITY) - std::abs(nearest);
  return std::abs((double{value} - exact) / double{unit});
}

double uniform(Random& random, double low, double high) {
  return low + (high - low) * static_cast<double>(random.bits() >> 11) * 0x1p-53;
}

// Each stays under the 2 units that scalar_math.hpp promises.
constexpr double kLimit = 2.0;

}  // namespace

TEST_CASE("exp of a float is within 2 ulp, subnormal results included") {
  Random random(21);
  double worst = 0.0;
  for (int i = 0; i < 400000; ++i) {
    const auto x = static_cast<float>(uniform(random, -104.0, 88.7));
    worst = std::max(worst, float_ulps(kernels::exp(x), std::exp(double{x})));
  }
  for (int i = 0; i < 100000; ++i) {
    const auto x = static_cast<float>(uniform(random, -1.0, 1.0));
    worst = std::max(worst, float_ulps(kernels::exp(x), std::exp(double{x})));
  }
  MESSAGE("worst error of exp(float): " << worst << " ulp");
  CHECK(worst <= kLimit);
}

TEST_CASE("exp of a float has exact edges") {
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(same_bits(kernels::exp(0.0f), 1.0f));
  CHECK(same_bits(kernels::exp(-0.0f), 1.0f));
  CHECK(same_bits(kernels::exp(-inf), 0.0f));
  CHECK(same_bits(kernels::exp(-104.1f), 0.0f));
  CHECK(same_bits(kernels::exp(inf), inf));
  CHECK(same_bits(kernels::exp(88.81f), inf));
  CHECK(same_bits(kernels::exp(3e38f), inf));
  CHECK(same_bits(kernels::exp(-3e38f), 0.0f));
  CHECK(kernels::exp(88.72f) < inf);
  CHECK(kernels::exp(-103.9f) > 0.0f);
  CHECK(std::isnan(kernels::exp(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("exp in vectors has the bits of the scalar exp") {
  // sigmoid(x) = 1 / (1 + exp(-x)) is the shortest way to it from outside; softmax over one maximum of 0 is another.
  Random random(22);
  std::vector<float> x;
  for (int i = 0; i < 4096; ++i) x.push_back(static_cast<float>(uniform(random, -110.0, 95.0)));
  auto y = x;
  kernels::sigmoid(y);
  for (std::size_t i = 0; i < x.size(); ++i) CHECK(same_bits(y[i], 1.0f / (1.0f + kernels::exp(-x[i]))));
  std::vector<float> z = {0.0f};
  for (int i = 0; i < 31; ++i) z.push_back(-static_cast<float>(uniform(random, 60.0, 105.0)));  // sum stays 1
  auto w = z;
  kernels::softmax(w);
  for (std::size_t i = 0; i < z.size(); ++i) CHECK(same_bits(w[i], kernels::exp(z[i])));
}

TEST_CASE("exp and log of a double are within 2 ulp") {
  if (std::numeric_limits<long double>::digits <= 53) SKIP("long double is no wider than double here");
  Random random(23);
  double worst_exp = 0.0;
  double worst_log = 0.0;
  for (int i = 0; i < 100000; ++i) {
    const double x = uniform(random, -745.0, 709.7);
    worst_exp = std::max(worst_exp, ulps(kernels::exp(x), std::exp(static_cast<long double>(x))));
    const double near_zero = uniform(random, -0.7, 0.7);
    worst_exp = std::max(worst_exp, ulps(kernels::exp(near_zero), std::exp(static_cast<long double>(near_zero))));
    const double near_one = uniform(random, 0.5, 2.0);
    worst_log = std::max(worst_log, ulps(kernels::log(near_one), std::log(static_cast<long double>(near_one))));
    const double any = std::ldexp(uniform(random, 1.0, 2.0), static_cast<int>(random.below(2090)) - 1070);
    worst_log = std::max(worst_log, ulps(kernels::log(any), std::log(static_cast<long double>(any))));
  }
  MESSAGE("worst error of exp(double): " << worst_exp << " ulp, of log: " << worst_log << " ulp");
  CHECK(worst_exp <= kLimit);
  CHECK(worst_log <= kLimit);
  CHECK(kernels::log(1.0) == 0.0);
  CHECK(kernels::exp(0.0) == 1.0);
  CHECK(std::isinf(kernels::exp(710.0)));
  CHECK(kernels::exp(-746.0) == 0.0);
  CHECK(kernels::exp(-std::numeric_limits<double>::infinity()) == 0.0);
  CHECK(std::isinf(kernels::log(0.0)));
  CHECK(std::isnan(kernels::log(-1.0)));
  CHECK(std::isnan(kernels::exp(std::nan(""))));
}

TEST_CASE("pow is within 2 ulp where rotary frequencies are made, and elsewhere") {
  if (std::numeric_limits<long double>::digits <= 53) SKIP("long double is no wider than double here");
  Random random(24);
  double worst = 0.0;
  for (const double base : {10000.0, 500000.0, 1e6, 40.0}) {
    for (int i = 0; i < 256; ++i) {
      const double exponent = -static_cast<double>(i) / 128.0;
      worst = std::max(worst, ulps(kernels::pow(base, exponent),
                                   std::pow(static_cast<long double>(base), static_cast<long double>(exponent))));
    }
  }
  for (int i = 0; i < 50000; ++i) {
    const double base = uniform(random, 0.01, 100.0);
    const double exponent = uniform(random, -100.0, 100.0);
    worst = std::max(worst, ulps(kernels::pow(base, exponent),
                                 std::pow(static_cast<long double>(base), static_cast<long double>(exponent))));
  }
  MESSAGE("worst error of pow: " << worst << " ulp");
  CHECK(worst <= kLimit);
  CHECK(kernels::pow(2.0, 10.0) == 1024.0);
  CHECK(kernels::pow(7.0, 0.0) == 1.0);
}

TEST_CASE("sin and cos are within 2 ulp up to 2^20 radians") {
  if (std::numeric_limits<long double>::digits <= 53) SKIP("long double is no wider than double here");
  Random random(25);
  double worst = 0.0;
  const auto compare = [&](double x) {
    worst = std::max(worst, ulps(kernels::sin(x), std::sin(static_cast<long double>(x))));
    worst = std::max(worst, ulps(kernels::cos(x), std::cos(static_cast<long double>(x))));
  };
  for (int i = 0; i < 100000; ++i) {
    compare(uniform(random, -1048576.0, 1048576.0));
    compare(uniform(random, -4.0, 4.0));
  }
  for (int position = 0; position < 200000; position += 7) compare(position);  // the fastest rotary frequency is 1
  // Beside multiples of pi/2, where the reduction cancels most.
  for (int n = 1; n < 600000; n += 997)
    compare(static_cast<double>(static_cast<long double>(n) * 1.57079632679489661923132L));
  MESSAGE("worst error of sin and cos: " << worst << " ulp");
  CHECK(worst <= kLimit);
  CHECK(kernels::sin(0.0) == 0.0);
  CHECK(kernels::cos(0.0) == 1.0);
  CHECK(std::isnan(kernels::sin(std::numeric_limits<double>::infinity())));
}

}  // namespace consort::tests
