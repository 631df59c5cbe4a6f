#include "kernels/scalar_math.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/cpu/exp_constants.hpp"

// std::fma as one instruction; without this the x86 baseline calls into libm. check_cpu() refuses CPUs without it.
#if defined(__x86_64__)
#define CONSORT_WITH_FMA __attribute__((target("avx2,fma")))
#else
#define CONSORT_WITH_FMA
#endif

namespace consort::kernels {
namespace {

// A value as the unevaluated sum of two doubles, |low| <= ulp(high) / 2 or so.
struct Pair {
  double high;
  double low;
};

constexpr double kDoubleLn2High = 0x1.62e42fefa39efp-1;
constexpr double kDoubleLn2Low = 0x1.abc9e3b39803fp-56;

// 2^n for n in [-1022, 1023].
double power_of_two(std::int64_t n) { return std::bit_cast<double>(static_cast<std::uint64_t>(n + 1023) << 52); }

// exp(x.high + x.low) for |x.low| tiny. Taylor to the 13th power: on |r| <= ln(2)/2 the rest is below 2^-57.
CONSORT_WITH_FMA double exp_of_pair(Pair x) {
  if (std::isnan(x.high)) return x.high;
  if (x.high > 709.79) return std::numeric_limits<double>::infinity();
  if (x.high < -745.2) return 0.0;
  constexpr double kRound = 0x1.8p+52;
  const double n = std::fma(x.high, 0x1.71547652b82fep+0, kRound) - kRound;
  const double r = std::fma(-n, kDoubleLn2High, x.high);
  const double rest = std::fma(-n, kDoubleLn2Low, x.low);
  double factor = 1.0;
  double q = 0.0;
  // Coefficients 1/13! .. 1/2!, each a quotient of exact integers, so rounded once.
  constexpr double kInverse[] = {1.0 / 6227020800.0, 1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0,
                                 1.0 / 362880.0,     1.0 / 40320.0,     1.0 / 5040.0,     1.0 / 720.0,
                                 1.0 / 120.0,        1.0 / 24.0,        1.0 / 6.0,        0.5};
  for (double c : kInverse) q = std::fma(q, r, c);
  // exp(r + rest) = exp(r) + rest exp(r), with exp(r) = 1 + r + r^2 q.
  const double square = q * (r * r);
  const double y = 1.0 + (r + std::fma(rest, 1.0 + (r + square), square));
  auto whole = static_cast<std::int64_t>(n);
  const std::int64_t half = whole / 2;  // two steps, so that a subnormal result is rounded once, in the last
  factor = power_of_two(half);
  whole -= half;
  return y * factor * power_of_two(whole);
}

// log(x) to about 2^-63 of its value; x > 0 and finite.
CONSORT_WITH_FMA Pair log_as_pair(double x) {
  std::int64_t exponent = 0;
  if (x < std::numeric_limits<double>::min()) {
    x *= 0x1p+54;
    exponent = -54;
  }
  auto bits = std::bit_cast<std::uint64_t>(x);
  exponent += static_cast<std::int64_t>(bits >> 52) - 1023;
  bits = (bits & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000;
  double m = std::bit_cast<double>(bits);
  if (m > 0x1.6a09e667f3bcdp+0) {  // sqrt(2): keeps m in [sqrt(1/2), sqrt(2)]
    m *= 0.5;
    ++exponent;
  }
  // log(m) = 2 atanh(s) with s = (m - 1) / (m + 1), as s_high + s_low; m - 1 is exact, m + 1 is not.
  const double above = m - 1.0;
  const double sum = m + 1.0;
  const double sum_low = m > 1.0 ? (m - sum) + 1.0 : (1.0 - sum) + m;
  const double s = above / sum;
  const double s_low = (std::fma(-s, sum, above) - s * sum_low) / sum;
  const double z = s * s;
  // 2/3 + 2/5 z + 2/7 z^2 ...; z <= 0.0295, the first term left out is below 2^-67.
  double q = 0.0;
  for (int k = 25; k >= 3; k -= 2) q = std::fma(q, z, 2.0 / k);
  const double tail = std::fma(z * s, q, 2.0 * s_low);
  // exponent * ln 2 + 2 s + tail, with what each sum drops caught.
  const double e = static_cast<double>(exponent);
  const double whole = e * kDoubleLn2High;
  const double whole_low = std::fma(e, kDoubleLn2High, -whole) + e * kDoubleLn2Low;
  const double two_s = 2.0 * s;
  const double high = whole + two_s;
  const double lost = std::abs(whole) > std::abs(two_s) ? (whole - high) + two_s : (two_s - high) + whole;
  const double low = lost + (whole_low + tail);
  const double total = high + low;
  return {total, (high - total) + low};
}

struct Reduced {
  double high;
  double low;
  std::int64_t quadrant;
};

// x - n pi/2 for the n nearest to x / (pi/2). The first step is exact: both terms are multiples of 2^-53 below 2^20.
CONSORT_WITH_FMA Reduced reduce_angle(double x) {
  constexpr double kRound = 0x1.8p+52;
  constexpr double kHalfPi1 = 0x1.921fb54442d18p+0;
  constexpr double kHalfPi2 = 0x1.1a62633145c07p-54;
  constexpr double kHalfPi3 = -0x1.f1976b7ed8fbcp-110;
  const double n = std::fma(x, 0x1.45f306dc9c883p-1, kRound) - kRound;
  const double first = std::fma(-n, kHalfPi1, x);
  const double second = n * kHalfPi2;
  const double second_low = std::fma(n, kHalfPi2, -second);
  // high + dropped = first - second without error, whichever is larger (Knuth).
  const double high = first - second;
  const double back = high - first;
  const double dropped = (first - (high - back)) - (second + back);
  const double low = std::fma(-n, kHalfPi3, dropped - second_low);
  return {high, low, static_cast<std::int64_t>(n)};
}

// Taylor series on |r| <= pi/4; the first terms left out are below 2^-58.
CONSORT_WITH_FMA double sin_series(double r, double low) {
  constexpr double kInverse[] = {1.0 / 355687428096000.0, -1.0 / 1307674368000.0, 1.0 / 6227020800.0, -1.0 / 39916800.0,
                                 1.0 / 362880.0,          -1.0 / 5040.0,          1.0 / 120.0,        -1.0 / 6.0};
  const double z = r * r;
  double q = 0.0;
  for (double c : kInverse) q = std::fma(q, z, c);
  // sin(r + low) = sin r + low cos r; cos r is needed to a few bits only
  return r + std::fma(q, z * r, low * std::fma(-0.5, z, 1.0));
}

CONSORT_WITH_FMA double cos_series(double r, double low) {
  constexpr double kInverse[] = {
      -1.0 / 6402373705728000.0, 1.0 / 20922789888000.0, -1.0 / 87178291200.0, 1.0 / 479001600.0,
      -1.0 / 3628800.0,          1.0 / 40320.0,          -1.0 / 720.0,         1.0 / 24.0};
  const double z = r * r;
  double q = 0.0;
  for (double c : kInverse) q = std::fma(q, z, c);
  // 1 - z/2 with what the subtraction drops caught.
  const double half = 0.5 * z;
  const double high = 1.0 - half;
  return high + ((1.0 - high) - half + std::fma(q, z * z, -r * low));
}

}  // namespace

// Adding 1.5 * 2^23 leaves round(x log2 e) in the low bits; the rest r is at most ln(2)/2 and its exponential a
// polynomial; the power of two is multiplied in two halves, so that subnormal results are rounded once.
CONSORT_WITH_FMA float exp(float x) {
  using namespace exp_constants;
  x = x < kLowest ? kLowest : x;
  x = x > kHighest ? kHighest : x;
  const float shifted = std::fma(x, kLog2E, kRound);
  const float n = shifted - kRound;
  const std::int32_t whole =
      static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(shifted) - std::uint32_t{kRoundBits});
  float r = std::fma(-n, kLn2High, x);
  r = std::fma(-n, kLn2Low, r);
  float q = kPolynomial[0];
  for (std::size_t i = 1; i < kPolynomialCount; ++i) q = std::fma(q, r, kPolynomial[i]);
  const float near_one = std::fma(q, r * r, r) + 1.0f;
  const std::int32_t half = whole >> 1;
  const auto power = [](std::int32_t k) { return std::bit_cast<float>(static_cast<std::uint32_t>(k + 127) << 23); };
  if (std::isnan(x)) return x;
  return near_one * power(half) * power(whole - half);
}

CONSORT_WITH_FMA double log(double x) {
  if (std::isnan(x) || x < 0.0) return std::numeric_limits<double>::quiet_NaN();
  if (x == 0.0) return -std::numeric_limits<double>::infinity();
  if (std::isinf(x)) return x;
  return log_as_pair(x).high;
}

CONSORT_WITH_FMA double exp(double x) { return exp_of_pair({x, 0.0}); }

CONSORT_WITH_FMA double pow(double base, double exponent) {
  if (exponent == 0.0 || base == 1.0) return 1.0;
  if (std::isnan(base) || std::isnan(exponent) || base < 0.0) return std::numeric_limits<double>::quiet_NaN();
  if (base == 0.0) return exponent > 0.0 ? 0.0 : std::numeric_limits<double>::infinity();
  const double infinity = std::numeric_limits<double>::infinity();
  if (std::isinf(base)) return exponent > 0.0 ? infinity : 0.0;
  if (std::isinf(exponent)) return (base > 1.0) == (exponent > 0.0) ? infinity : 0.0;
  const Pair logarithm = log_as_pair(base);
  const double high = exponent * logarithm.high;
  if (std::isinf(high)) return high > 0.0 ? infinity : 0.0;
  const double low = std::fma(exponent, logarithm.high, -high) + exponent * logarithm.low;
  return exp_of_pair({high, low});
}

CONSORT_WITH_FMA double sin(double x) {
  if (std::isnan(x) || std::isinf(x)) return std::numeric_limits<double>::quiet_NaN();
  const Reduced r = reduce_angle(x);
  const double value = (r.quadrant & 1) != 0 ? cos_series(r.high, r.low) : sin_series(r.high, r.low);
  return (r.quadrant & 2) != 0 ? -value : value;
}

CONSORT_WITH_FMA double cos(double x) {
  if (std::isnan(x) || std::isinf(x)) return std::numeric_limits<double>::quiet_NaN();
  const Reduced r = reduce_angle(x);
  const double value = (r.quadrant & 1) != 0 ? sin_series(r.high, r.low) : cos_series(r.high, r.low);
  return ((r.quadrant + 1) & 2) != 0 ? -value : value;
}

}  // namespace consort::kernels
