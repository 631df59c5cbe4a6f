#include "model/sampler.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "support/test.hpp"

namespace consort::model {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

SampledToken draw(const std::vector<float>& logits, const SamplingParams& params, std::uint64_t position = 0) {
  auto sampled = sample(logits, params, position);
  REQUIRE_MESSAGE(sampled.ok(), sampled.error().text);
  return *sampled;
}

std::vector<int> histogram(const std::vector<float>& logits, const SamplingParams& params, int draws) {
  std::vector<int> counts(logits.size());
  for (int i = 0; i < draws; ++i)
    ++counts[static_cast<std::size_t>(draw(logits, params, static_cast<std::uint64_t>(i)).token)];
  return counts;
}

// Pearson's statistic against expected shares; a share of zero must not be drawn at all.
double chi_square(const std::vector<int>& counts, const std::vector<double>& shares) {
  const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
  double sum = 0.0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (shares[i] == 0.0) {
      CHECK(counts[i] == 0);
      continue;
    }
    const double expected = shares[i] * total;
    sum += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  return sum;
}

// A chi-square variable with n degrees of freedom exceeds this with a probability below 1e-6 (Laurent and Massart 2000,
// lemma 1: P(X >= n + 2 sqrt(n t) + 2 t) <= exp(-t), with t = 14). The draws are a fixed sequence, so the test cannot
// flicker; a generator or a filter that is off by 2 % in a share of a tenth is far beyond it at 100,000 draws.
double chi_square_limit(double degrees) { return degrees + 2.0 * std::sqrt(degrees * 14.0) + 28.0; }

// Shares by the definition, in double and by plain sorting.
std::vector<double> expected_shares(const std::vector<float>& logits, const SamplingParams& params) {
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return logits[a] > logits[b]; });
  std::vector<double> p(logits.size());
  double sum = 0.0;
  if (params.top_k > 0 && static_cast<std::size_t>(params.top_k) < order.size())
    order.resize(static_cast<std::size_t>(params.top_k));
  for (auto i : order) sum += p[i] = std::exp(static_cast<double>(logits[i]) / static_cast<double>(params.temperature));
  double reached = 0.0;
  std::size_t keep = 0;
  while (keep < order.size() && (keep == 0 || reached < static_cast<double>(params.top_p) * sum))
    reached += p[order[keep++]];
  const double most = p[order[0]];
  double left = 0.0;
  std::vector<double> shares(logits.size());
  for (std::size_t r = 0; r < keep; ++r) {
    if (p[order[r]] < static_cast<double>(params.min_p) * most) continue;
    left += shares[order[r]] = p[order[r]];
  }
  for (double& share : shares) share /= left;
  return shares;
}

const std::vector<float> kLogits = {0.3F, 2.0F, -1.0F, 1.1F, 0.0F, 2.2F, -4.0F, 1.7F, 0.9F, -0.2F};

}  // namespace

TEST_CASE("draws are the documented counter's, bit for bit") {
  const auto bits = [](std::uint64_t seed, std::uint64_t position) {
    return static_cast<std::uint64_t>(std::ldexp(uniform_draw(seed, position), 53));
  };
  // From the formula of sampler.hpp in Python's integers.
  CHECK(bits(0, 0) == 0x4C4EF2C2573B8ULL);
  CHECK(bits(0, 1) == 0x1CCE1AA5DD20DAULL);
  CHECK(bits(1, 0) == 0xB8056887BAFA0ULL);
  CHECK(bits(42, 1000) == 0x1CF322E4B28117ULL);
  CHECK(bits(~0ULL, ~0ULL) == 0x996FDA0DCBF61ULL);
}

TEST_CASE("draws are uniform, and independent of the neighbouring position and seed") {
  constexpr int kDraws = 100'000;
  constexpr int kCells = 16;
  std::vector<int> next_position(kCells * kCells);
  std::vector<int> next_seed(kCells * kCells);
  const auto cell = [](double u) { return static_cast<std::size_t>(u * kCells); };
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    const double u = uniform_draw(7, i);
    REQUIRE(u >= 0.0);
    REQUIRE(u < 1.0);
    ++next_position[cell(u) * kCells + cell(uniform_draw(7, i + 1))];
    ++next_seed[cell(uniform_draw(i, 3)) * kCells + cell(uniform_draw(i + 1, 3))];
  }
  const std::vector<double> even(kCells * kCells, 1.0 / (kCells * kCells));
  CHECK(chi_square(next_position, even) < chi_square_limit(kCells * kCells - 1));
  CHECK(chi_square(next_seed, even) < chi_square_limit(kCells * kCells - 1));
}

TEST_CASE("tokens come in the shares that the parameters ask for") {
  const SamplingParams cases[] = {
      {.seed = 1},
      {.temperature = 0.5F, .seed = 2},
      {.temperature = 3.0F, .seed = 3},
      {.top_k = 4, .seed = 4},
      {.top_p = 0.8F, .seed = 5},
      {.min_p = 0.25F, .seed = 6},
      {.temperature = 1.5F, .top_k = 7, .top_p = 0.9F, .min_p = 0.2F, .seed = 7},
  };
  for (const SamplingParams& params : cases) {
    CAPTURE(params.seed);
    const auto shares = expected_shares(kLogits, params);
    const double kept =
        static_cast<double>(std::count_if(shares.begin(), shares.end(), [](double s) { return s > 0.0; }));
    CHECK(kept >= 2);
    CHECK(chi_square(histogram(kLogits, params, 100'000), shares) < chi_square_limit(kept - 1));
  }
}

TEST_CASE("top_p counts what top_k has left") {
  // Shares 1/2, 1/4, 1/8, ...: of the first two alone the first has 2/3.
  std::vector<float> logits;
  for (int i = 0; i < 8; ++i) logits.push_back(static_cast<float>(-i) * std::log(2.0F));
  const auto only_first = histogram(logits, {.top_k = 2, .top_p = 0.66F}, 1000);
  CHECK(only_first[0] == 1000);
  const auto both = histogram(logits, {.top_k = 2, .top_p = 0.68F}, 1000);
  CHECK(both[0] + both[1] == 1000);
  CHECK(both[1] > 200);
}

TEST_CASE("a flat row of a real vocabulary's size keeps the asked share of its tokens") {
  const std::vector<float> flat(129'280, 1.5F);
  std::int32_t largest = 0;
  for (std::uint64_t i = 0; i < 40; ++i) largest = std::max(largest, draw(flat, {.top_p = 0.25F}, i).token);
  CHECK(largest < 129'280 / 4);          // equal tokens are kept by index
  CHECK(largest > 129'280 / 4 * 3 / 4);  // 40 draws all below three quarters: 0.75^40 = 1e-5
}

TEST_CASE("greedy takes the largest logit, the first of equal ones") {
  CHECK(draw({1.0F, 3.0F, 3.0F, 2.0F}, {.temperature = 0.0F}).token == 1);
  CHECK(draw({-0.0F, 0.0F}, {.temperature = 0.0F}).token == 0);
  CHECK(draw({-kInfinity, -5.0F}, {.temperature = 0.0F}).token == 1);
  CHECK(draw({1.0F, 3.0F, 3.0F}, {.top_k = 1}).token == 1);
  CHECK(draw({1.0F, 3.0F, 3.0F}, {.top_p = 0.01F}).token == 1);
}

TEST_CASE("a tiny temperature is nearly greedy and never overflows") {
  for (std::uint64_t i = 0; i < 100; ++i) CHECK(draw({1.0F, 300.0F, 299.0F}, {.temperature = 1e-30F}, i).token == 1);
}

TEST_CASE("log-probabilities are of the plain softmax, alternatives largest first") {
  const auto sampled = draw(kLogits, {.temperature = 0.7F, .top_k = 3, .seed = 9, .top_logprobs = 4}, 5);
  double sum = 0.0;
  for (float logit : kLogits) sum += std::exp(static_cast<double>(logit));
  const auto expected = [&](std::int32_t token) {
    return static_cast<double>(kLogits[static_cast<std::size_t>(token)]) - std::log(sum);
  };
  // One rounding to F32 of a value near 2, and exp and log within 2 ulp: 1e-6 is four times that.
  CHECK(std::abs(static_cast<double>(sampled.logprob) - expected(sampled.token)) < 1e-6);
  REQUIRE(sampled.alternatives.size() == 4);
  const std::int32_t order[] = {5, 1, 7, 3};
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(sampled.alternatives[i].token == order[i]);
    CHECK(std::abs(static_cast<double>(sampled.alternatives[i].logprob) - expected(order[i])) < 1e-6);
  }
  CHECK(draw({2.0F, 1.0F}, {.top_logprobs = 20}).alternatives.size() == 2);
  CHECK(draw({1.0F, 2.0F, 2.0F}, {.top_logprobs = 2}).alternatives[0].token == 1);
}

TEST_CASE("equal inputs give equal bits, and other positions other draws") {
  std::vector<float> logits(1000);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(8.0 * uniform_draw(123, i));
  const SamplingParams params{.temperature = 1.3F, .top_p = 0.95F, .min_p = 0.01F, .seed = 77, .top_logprobs = 3};
  std::set<std::int32_t> tokens;
  std::uint64_t digest = 1469598103934665603ULL;  // FNV-1a over tokens and log-probability bits
  for (std::uint64_t position = 0; position < 200; ++position) {
    const auto first = draw(logits, params, position);
    CHECK(first == draw(logits, params, position));
    tokens.insert(first.token);
    for (std::uint64_t word :
         {std::uint64_t(first.token), std::uint64_t{std::bit_cast<std::uint32_t>(first.logprob)}}) {
      digest = (digest ^ word) * 1099511628211ULL;
    }
  }
  CHECK(tokens.size() > 50);
  // Recorded on x86-64; another machine, compiler or instruction set must give the same.
  CHECK(digest == 1200728661213428071ULL);
}

TEST_CASE("a broken row is an error, not a token") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const auto& row : {std::vector<float>{1.0F, nan}, {kInfinity, 0.0F}, {-kInfinity, -kInfinity}}) {
    const auto sampled = sample(row, {}, 0);
    REQUIRE_FALSE(sampled.ok());
    CHECK(sampled.error().kind == runtime::ErrorKind::kInternal);
  }
  CHECK(sample(std::vector<float>{1.0F, nan}, {}, 0).error().text.find("token 1 is nan") != std::string::npos);
}

TEST_CASE("parameters out of range are refused by name") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto refused = [](const SamplingParams& params, std::string_view field) {
    const auto status = check(params);
    REQUIRE_FALSE(status.ok());
    CAPTURE(status.error().text);
    CHECK(status.error().text.find(field) != std::string::npos);
  };
  CHECK(check({}).ok());
  CHECK(check({.temperature = 0.0F, .top_k = 1, .top_p = 0.001F, .min_p = 1.0F, .top_logprobs = 20}).ok());
  refused({.temperature = -0.1F}, "temperature is -0.1; it must be at least 0 and at most 100");
  refused({.temperature = nan}, "temperature");
  refused({.temperature = kInfinity}, "temperature");
  refused({.top_k = -1}, "top_k");
  refused({.top_p = 0.0F}, "top_p is 0; it must be above 0 and at most 1");
  refused({.top_p = 1.01F}, "top_p");
  refused({.top_p = nan}, "top_p");
  refused({.min_p = -0.01F}, "min_p");
  refused({.min_p = nan}, "min_p");
  refused({.top_logprobs = 21}, "top_logprobs");
}

}  // namespace consort::model
