// gemm against the triple loop, bit for bit.
#include "kernels/gemm.hpp"

#include "reference.hpp"
#include "support/test.hpp"

namespace consort::tests {
namespace {

constexpr Dtype kWeightDtypes[] = {Dtype::kF32, Dtype::kF16, Dtype::kBf16, Dtype::kF8E4m3};

std::vector<float> naive_gemm(const ConstTensorView& x, const WeightMatrix& w) {
  std::vector<float> expanded(static_cast<std::size_t>(w.rows * w.cols));
  for (std::int64_t r = 0; r < w.rows; ++r) {
    for (std::int64_t c = 0; c < w.cols; ++c) expanded[static_cast<std::size_t>(r * w.cols + c)] = weight_at(w, r, c);
  }
  std::vector<float> out;
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    for (std::int64_t o = 0; o < w.rows; ++o) {
      const float* row = expanded.data() + o * w.cols;
      out.push_back(naive_dot(
          w.cols, [&](auto i) { return x.f32(t)[i]; }, [&](auto i) { return row[i]; }));
    }
  }
  return out;
}

std::vector<float> run(const ConstTensorView& x, const WeightMatrix& w, runtime::Workers& workers) {
  std::vector<float> out(static_cast<std::size_t>(x.rows() * w.rows), -7.0f);
  kernels::gemm(view(out, x.rows(), w.rows), x, w, workers);
  return out;
}

}  // namespace

TEST_CASE("gemm equals the triple loop in bits for every dtype, shape and tail") {
  Random random(1);
  runtime::InlineWorkers workers;
  const std::int64_t row_counts[] = {1, 2, 3, 4, 5, 6, 7, 9, 13};
  const std::int64_t col_counts[] = {1, 2, 3, 5, 24, 25, 31};
  const std::int64_t depths[] = {1, 15, 16, 17, 64, 130, 511, 512, 513, 1040};
  for (const Dtype dtype : kWeightDtypes) {
    for (const std::int64_t depth : depths) {
      for (const std::int64_t cols : col_counts) {
        const auto w = random_weight(random, dtype, cols, depth);
        const std::int64_t rows = row_counts[random.below(9)];
        const auto x = random.values(rows * depth);
        CAPTURE(runtime::name(dtype));
        CAPTURE(rows);
        CAPTURE(cols);
        CAPTURE(depth);
        CHECK(first_difference(run(view(x, rows, depth), w.matrix, workers),
                               naive_gemm(view(x, rows, depth), w.matrix)) == -1);
      }
    }
  }
}

TEST_CASE("gemm gives a row the same bits alone and among 200 others") {
  Random random(2);
  runtime::InlineWorkers workers;
  constexpr std::int64_t kRows = 201;
  constexpr std::int64_t kDepth = 1100;
  constexpr std::int64_t kCols = 50;
  const auto x = random.values(kRows * kDepth);
  for (const Dtype dtype : kWeightDtypes) {
    const auto w = random_weight(random, dtype, kCols, kDepth);
    const auto all = run(view(x, kRows, kDepth), w.matrix, workers);
    for (const std::int64_t first : {0, 95, 96, 199}) {
      for (const std::int64_t count : {1, 2, 5}) {
        if (first + count > kRows) continue;
        const auto some = run(view(x, kRows, kDepth).slice_rows(first, count), w.matrix, workers);
        CHECK(first_difference(some, std::span(all).subspan(static_cast<std::size_t>(first * kCols), some.size())) ==
              -1);
      }
    }
    CHECK(first_difference(std::span(all).first(5 * kCols),
                           naive_gemm(view(x, kRows, kDepth).slice_rows(0, 5), w.matrix)) == -1);
  }
}

TEST_CASE("gemm gives the same bits on three threads as on one") {
  Random random(3);
  runtime::InlineWorkers one;
  ThreadedWorkers three(3);
  for (const Dtype dtype : kWeightDtypes) {
    for (const std::int64_t rows : {1, 7, 40}) {
      const auto w = random_weight(random, dtype, 1000, 700);
      const auto x = random.values(rows * 700);
      CHECK(first_difference(run(view(x, rows, 700), w.matrix, three), run(view(x, rows, 700), w.matrix, one)) == -1);
    }
  }
}

TEST_CASE("gemm reads and writes rows that lie apart, and nothing between them") {
  Random random(4);
  runtime::InlineWorkers workers;
  for (const Dtype dtype : kWeightDtypes) {
    const auto w = random_weight(random, dtype, 10, 40, 9);
    auto x = random.values(6 * 50);
    std::vector<float> out(6 * 13, 5.0f);
    const auto x_view = view(x, 6, 50).slice_cols(3, 40);
    kernels::gemm(view(out, 6, 13).slice_cols(2, 10), x_view, w.matrix, workers);
    const auto expected = naive_gemm(x_view, w.matrix);
    for (std::size_t t = 0; t < 6; ++t) {
      CHECK(first_difference(std::span(out).subspan(t * 13 + 2, 10), std::span(expected).subspan(t * 10, 10)) == -1);
      CHECK(out[t * 13] == 5.0f);
      CHECK(out[t * 13 + 1] == 5.0f);
      CHECK(out[t * 13 + 12] == 5.0f);
    }
  }
}

TEST_CASE("a cut inside an FP8 block keeps the block's scale") {
  Random random(5);
  runtime::InlineWorkers workers;
  const auto whole = random_weight(random, Dtype::kF8E4m3, 300, 400);
  const auto x = random.values(5 * 400);
  for (const std::int64_t first : {0, 16, 100, 120, 129, 250}) {
    WeightMatrix cut = whole.matrix;
    cut.data += first * cut.row_stride + first;
    cut.row_origin = first;
    cut.col_origin = first;
    cut.rows = 40;
    cut.cols = 145;
    const auto x_view = view(x, 5, 400).slice_cols(first, 145);
    const auto out = run(x_view, cut, workers);
    for (std::int64_t t = 0; t < 5; ++t) {
      for (std::int64_t o = 0; o < 40; ++o) {
        const float expected = naive_dot(
            145, [&](auto i) { return x_view.f32(t)[i]; },
            [&](auto i) { return weight_at(whole.matrix, first + o, first + i); });
        CHECK(same_bits(out[static_cast<std::size_t>(t * 40 + o)], expected));
      }
    }
  }
}

TEST_CASE("gemm is as exact as 16 lanes of F32 allow") {
  Random random(6);
  runtime::InlineWorkers workers;
  constexpr std::int64_t kDepth = 7168;
  const auto w = random_weight(random, Dtype::kF32, 8, kDepth);
  const auto x = random.values(3 * kDepth);
  const auto out = run(view(x, 3, kDepth), w.matrix, workers);
  for (std::int64_t t = 0; t < 3; ++t) {
    for (std::int64_t o = 0; o < 8; ++o) {
      double exact = 0.0;
      double magnitude = 0.0;
      for (std::int64_t i = 0; i < kDepth; ++i) {
        const double product = double{x[static_cast<std::size_t>(t * kDepth + i)]} * double{weight_at(w.matrix, o, i)};
        exact += product;
        magnitude += std::abs(product);
      }
      // Each product passes at most kDepth / 16 fma and 4 additions, each within 2^-24: the classical bound.
      CHECK(std::abs(double{out[static_cast<std::size_t>(t * 8 + o)]} - exact) <=
            (kDepth / 16 + 4) * 0x1p-24 * magnitude);
    }
  }
}

TEST_CASE("gemm lets NaN and infinity through to their own row and column only") {
  Random random(7);
  runtime::InlineWorkers workers;
  auto w = random_weight(random, Dtype::kBf16, 30, 100);
  auto x = random.values(9 * 100);
  x[4 * 100 + 50] = std::numeric_limits<float>::quiet_NaN();
  const std::uint16_t infinity = 0x7F80;
  std::memcpy(w.bytes.data() + 2 * (7 * 100 + 3), &infinity, 2);
  const auto out = run(view(x, 9, 100), w.matrix, workers);
  for (std::size_t t = 0; t < 9; ++t) {
    for (std::size_t o = 0; o < 30; ++o) {
      const float value = out[t * 30 + o];
      if (t == 4) {
        CHECK(std::isnan(value));
      } else if (o == 7) {
        CHECK(std::isinf(value));
      } else {
        CHECK(std::isfinite(value));
      }
    }
  }
}

TEST_CASE("gemm pads a tail with +0, so that an underflow to -0 comes out as +0") {
  runtime::InlineWorkers workers;
  const std::vector<float> x = {-1e-30f};
  std::vector<float> weights = {1e-30f};
  std::vector<float> out = {1.0f};
  const WeightMatrix w{reinterpret_cast<const std::byte*>(weights.data()), Dtype::kF32, 1, 1, 1};
  kernels::gemm(view(out, 1, 1), view(x, 1, 1), w, workers);
  // Lane 0 is -0; the other lanes are +0, and the tree adds them.
  CHECK(std::bit_cast<std::uint32_t>(out[0]) == 0);
}

TEST_CASE("gemm of no columns is +0 and of no rows is nothing") {
  runtime::InlineWorkers workers;
  std::vector<float> out(6, 3.0f);
  const std::vector<float> x(1);
  const WeightMatrix none{nullptr, Dtype::kF32, 3, 0, 0};
  kernels::gemm(view(out, 2, 3), view(x, 2, 0), none, workers);
  CHECK(first_difference(out, std::vector<float>(6, 0.0f)) == -1);
  const WeightMatrix rowless{nullptr, Dtype::kBf16, 0, 4, 4};
  kernels::gemm(view(out, 2, 0), view(x, 2, 4), rowless, workers);
}

}  // namespace consort::tests
