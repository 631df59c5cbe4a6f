// The row-wise operations against their formulas, bit for bit.
#include "kernels/vector.hpp"

#include "kernels/scalar_math.hpp"
#include "reference.hpp"
#include "support/test.hpp"

namespace consort::tests {
namespace {

constexpr std::int64_t kLengths[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 1000};

float naive_rms_factor(std::span<const float> x, float eps) {
  const float square = naive_dot(
      static_cast<std::int64_t>(x.size()), [&](auto i) { return x[static_cast<std::size_t>(i)]; },
      [&](auto i) { return x[static_cast<std::size_t>(i)]; });
  return 1.0f / std::sqrt(square / static_cast<float>(x.size()) + eps);
}

}  // namespace

TEST_CASE("dot runs in 16 lanes and the tree 8-4-2-1") {
  Random random(11);
  for (const std::int64_t n : kLengths) {
    const auto a = random.values(n);
    const auto b = random.values(n);
    const float expected = naive_dot(
        n, [&](auto i) { return a[static_cast<std::size_t>(i)]; },
        [&](auto i) { return b[static_cast<std::size_t>(i)]; });
    CHECK(same_bits(kernels::dot(a, b), expected));
  }
  CHECK(kernels::dot({}, {}) == 0.0f);
}

TEST_CASE("rms_norm is its formula, each operation rounded once, also in place") {
  Random random(12);
  for (const std::int64_t n : kLengths) {
    const auto x = random.values(3 * n, 4.0f);
    const auto weight = random.values(n);
    std::vector<float> expected;
    for (std::int64_t t = 0; t < 3; ++t) {
      const auto row = std::span(x).subspan(static_cast<std::size_t>(t * n), static_cast<std::size_t>(n));
      const float r = naive_rms_factor(row, 1e-6f);
      for (std::size_t i = 0; i < row.size(); ++i) expected.push_back(weight[i] * (row[i] * r));
    }
    std::vector<float> out(x.size());
    kernels::rms_norm(view(out, 3, n), view(x, 3, n), weight, 1e-6f);
    CHECK(first_difference(out, expected) == -1);
    out = x;
    kernels::rms_norm(view(out, 3, n), view(out, 3, n), weight, 1e-6f);
    CHECK(first_difference(out, expected) == -1);
  }
}

TEST_CASE("silu_mul and sigmoid are their formulas with the scalar exp") {
  Random random(13);
  for (const std::int64_t n : kLengths) {
    const auto gate = random.values(2 * n, 20.0f);
    const auto up = random.values(2 * n);
    std::vector<float> expected;
    std::vector<float> expected_sigmoid;
    for (std::size_t i = 0; i < gate.size(); ++i) {
      expected.push_back(gate[i] / (1.0f + kernels::exp(-gate[i])) * up[i]);
      expected_sigmoid.push_back(1.0f / (1.0f + kernels::exp(-gate[i])));
    }
    auto out = gate;
    kernels::silu_mul(view(out, 2, n), view(out, 2, n), view(up, 2, n));
    CHECK(first_difference(out, expected) == -1);
    out = up;
    kernels::silu_mul(view(out, 2, n), view(gate, 2, n), view(out, 2, n));
    CHECK(first_difference(out, expected) == -1);
    out = gate;
    kernels::sigmoid(out);
    CHECK(first_difference(out, expected_sigmoid) == -1);
  }
}

TEST_CASE("rotate_pairs rounds the first product and fuses the second") {
  Random random(14);
  for (const std::int64_t pairs : {1, 2, 7, 8, 9, 16, 32, 37}) {
    auto x = random.values(2 * pairs);
    const auto c = random.values(pairs);
    const auto s = random.values(pairs);
    auto expected = x;
    for (std::size_t i = 0; i < c.size(); ++i) {
      const float a = x[2 * i];
      const float b = x[2 * i + 1];
      const float ac = a * c[i];
      const float bc = b * c[i];
      expected[2 * i] = std::fma(-b, s[i], ac);
      expected[2 * i + 1] = std::fma(a, s[i], bc);
    }
    kernels::rotate_pairs(x, c, s);
    CHECK(first_difference(x, expected) == -1);
  }
}

TEST_CASE("add and add_scaled round once per element and keep to their rows") {
  Random random(15);
  for (const std::int64_t n : kLengths) {
    const auto x = random.values(2 * n);
    const auto start = random.values(2 * (n + 3));
    auto out = start;
    kernels::add(view(out, 2, n + 3).slice_cols(1, n), view(x, 2, n));
    auto expected = start;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const auto columns = static_cast<std::size_t>(n);
      expected[i / columns * (columns + 3) + 1 + i % columns] += x[i];
    }
    CHECK(first_difference(out, expected) == -1);
    out = std::vector<float>(start.begin(), start.begin() + 2 * n);
    expected = out;
    for (std::size_t i = 0; i < x.size(); ++i) expected[i] = std::fma(0.37f, x[i], expected[i]);
    kernels::add_scaled(out, 0.37f, x);
    CHECK(first_difference(out, expected) == -1);
  }
}

TEST_CASE("softmax subtracts the maximum, sums in 16 lanes and divides") {
  Random random(16);
  for (const std::int64_t n : kLengths) {
    auto x = random.values(n, 30.0f);
    float largest = x[0];
    for (float v : x) largest = std::max(largest, v);
    std::vector<float> expected;
    for (float v : x) expected.push_back(kernels::exp(v - largest));
    const float total = naive_sum(expected);
    for (auto& v : expected) v /= total;
    kernels::softmax(x);
    CHECK(first_difference(x, expected) == -1);
    double sum = 0.0;
    for (float v : x) sum += double{v};
    CHECK(std::abs(sum - 1.0) < 1e-6 * std::sqrt(static_cast<double>(n)));  // n roundings of 2^-24, and the divisor's
  }
}

TEST_CASE("expand_row gives every F16 and every E4M3 value, NaN included") {
  std::vector<std::uint16_t> halves(65536);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  std::vector<float> out(halves.size());
  WeightMatrix w{reinterpret_cast<const std::byte*>(halves.data()), Dtype::kF16, 1, 65536, 65536};
  kernels::expand_row(out, w, 0);
  for (std::size_t i = 0; i < halves.size(); ++i) CHECK_MESSAGE(same_bits(out[i], half_to_float(halves[i])), i);
  w.dtype = Dtype::kBf16;
  kernels::expand_row(out, w, 0);
  for (std::size_t i = 0; i < halves.size(); ++i) {
    CHECK_MESSAGE(same_bits(out[i], std::bit_cast<float>(static_cast<std::uint32_t>(halves[i]) << 16)), i);
  }

  std::vector<std::uint8_t> bytes(256);
  for (std::size_t i = 0; i < 256; ++i) bytes[i] = static_cast<std::uint8_t>(i);
  out.resize(256);
  for (const float scale : {1.0f, 0.00123f, 3.3f, 0x1p-120f, 0x1.3p100f, -2.0f}) {
    const std::vector<float> scales = {scale, scale * 0.5f};
    w = {reinterpret_cast<const std::byte*>(bytes.data()), Dtype::kF8E4m3, 1, 256, 256, scales.data(), 2};
    kernels::expand_row(out, w, 0);
    for (std::size_t i = 0; i < 256; ++i)
      CHECK_MESSAGE(same_bits(out[i], e4m3_to_float(bytes[i]) * scales[i / 128]), i);
  }
}

TEST_CASE("NaN flows through every operation, infinities as IEEE says") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  for (const std::size_t n : {3u, 20u}) {
    std::vector<float> x(n, 0.5f);
    x[1] = nan;
    auto y = x;
    kernels::softmax(y);
    for (float v : y) CHECK(std::isnan(v));
    y = std::vector<float>(n, 0.5f);
    y[2] = -inf;  // a masked position weighs nothing
    kernels::softmax(y);
    CHECK(same_bits(y[2], 0.0f));
    CHECK(y[0] > 0.0f);
    y = std::vector<float>(n, -inf);  // nothing to choose from has no answer
    kernels::softmax(y);
    for (float v : y) CHECK(std::isnan(v));
    y = x;
    kernels::sigmoid(y);
    CHECK(std::isnan(y[1]));
    CHECK(y[0] > 0.6f);
    y = {inf, -inf, 200.0f, -200.0f};
    kernels::sigmoid(y);
    CHECK(first_difference(y, std::vector<float>{1.0f, 0.0f, 1.0f, 0.0f}) == -1);
    const std::vector<float> weight(n, 1.0f);
    std::vector<float> out(n);
    kernels::rms_norm(view(out, 1, static_cast<std::int64_t>(n)), view(x, 1, static_cast<std::int64_t>(n)), weight,
                      1e-6f);
    for (float v : out) CHECK(std::isnan(v));
    y = x;
    kernels::silu_mul(view(y, 1, static_cast<std::int64_t>(n)), view(y, 1, static_cast<std::int64_t>(n)),
                      view(weight, 1, static_cast<std::int64_t>(n)));
    CHECK(std::isnan(y[1]));
    CHECK(std::isfinite(y[0]));
  }
}

}  // namespace consort::tests
