// top_k and argmax against a full stable sort.
#include "kernels/top_k.hpp"

#include <algorithm>
#include <numeric>

#include "reference.hpp"
#include "support/test.hpp"

namespace consort::tests {
namespace {

std::vector<std::int32_t> sorted(std::span<const float> x) {
  std::vector<std::int32_t> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    const float va = x[static_cast<std::size_t>(a)];
    const float vb = x[static_cast<std::size_t>(b)];
    if (std::isnan(va) || std::isnan(vb)) return !std::isnan(va) && std::isnan(vb);
    return va > vb;
  });
  return order;
}

}  // namespace

TEST_CASE("top_k gives the largest first and equal ones by the lower index") {
  Random random(41);
  for (int round = 0; round < 300; ++round) {
    std::vector<float> x;
    const std::int64_t n = 1 + random.below(200);
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t kind = random.below(20);
      if (kind == 0) {
        x.push_back(std::numeric_limits<float>::quiet_NaN());
      } else if (kind == 1) {
        x.push_back(-std::numeric_limits<float>::infinity());
      } else {
        x.push_back(static_cast<float>(random.below(12)) - 6.0f);  // many ties
      }
    }
    const auto expected = sorted(x);
    const auto k = static_cast<std::size_t>(random.below(n + 1));
    std::vector<std::int32_t> chosen(k, -1);
    kernels::top_k(chosen, x);
    CHECK(std::equal(chosen.begin(), chosen.end(), expected.begin()));
    CHECK(kernels::argmax(x) == expected[0]);
  }
}

TEST_CASE("top_k takes -0 and +0 as a tie") {
  const std::vector<float> x = {-1.0f, -0.0f, 0.0f, -0.0f};
  std::vector<std::int32_t> chosen(3);
  kernels::top_k(chosen, x);
  CHECK(chosen == std::vector<std::int32_t>{1, 2, 3});
  CHECK(kernels::argmax(x) == 1);
}

}  // namespace consort::tests
