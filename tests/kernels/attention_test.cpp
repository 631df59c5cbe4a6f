// latent_attention against its formulas, position by position, bit for bit; and against a softmax in double.
#include "kernels/attention.hpp"

#include "kernels/scalar_math.hpp"
#include "reference.hpp"
#include "support/test.hpp"

namespace consort::tests {
namespace {

struct Shape {
  std::int64_t heads;
  std::int64_t latent;
  std::int64_t rope;
  std::int64_t width() const { return latent + rope; }
};

struct Cache {
  std::vector<std::vector<float>> memory;
  std::vector<const float*> pages;
  Cache(Random& random, const Shape& shape, std::int64_t positions) {
    for (std::int64_t p = 0; p < positions; p += kernels::kPagePositions) {
      memory.push_back(random.values(kernels::kPagePositions * shape.width()));
    }
    for (const auto& page : memory) pages.push_back(page.data());
  }
  const float* row(std::int64_t position, const Shape& shape) const {
    return pages[static_cast<std::size_t>(position / 64)] + position % 64 * shape.width();
  }
};

// One head, written from the words in attention.hpp.
std::vector<float> naive_head(const float* query, const Cache& cache, const Shape& shape, std::int64_t position,
                              float scale) {
  float largest = 0.0f;
  float total = 0.0f;
  std::vector<float> out(static_cast<std::size_t>(shape.latent));
  for (std::int64_t start = 0; start <= position; start += 64) {
    std::vector<float> weights;
    for (std::int64_t p = start; p <= position && p < start + 64; ++p) {
      const float* key = cache.row(p, shape);
      weights.push_back(scale * naive_dot(
                                    shape.width(), [&](auto i) { return query[i]; }, [&](auto i) { return key[i]; }));
    }
    float page_largest = weights[0];
    for (float z : weights) page_largest = std::max(page_largest, z);
    for (float& z : weights) z = kernels::exp(z - page_largest);
    const float page_total = naive_sum(weights);
    std::vector<float> page_out(out.size());
    for (std::size_t j = 0; j < weights.size(); ++j) {
      const float* latent = cache.row(start + static_cast<std::int64_t>(j), shape);
      for (std::size_t c = 0; c < out.size(); ++c) page_out[c] = std::fma(weights[j], latent[c], page_out[c]);
    }
    if (start == 0) {
      largest = page_largest;
      total = page_total;
      out = page_out;
      continue;
    }
    const float both = std::max(largest, page_largest);
    const float keep = kernels::exp(largest - both);
    const float take = kernels::exp(page_largest - both);
    total = std::fma(total, keep, page_total * take);
    for (std::size_t c = 0; c < out.size(); ++c) out[c] = std::fma(out[c], keep, page_out[c] * take);
    largest = both;
  }
  for (float& v : out) v /= total;
  return out;
}

std::vector<float> attend(const std::vector<float>& query, const Cache& cache, const Shape& shape,
                          std::int64_t position, float scale, runtime::Workers& workers) {
  std::vector<float> out(static_cast<std::size_t>(shape.heads * shape.latent), 9.0f);
  const kernels::LatentQuery row{query.data(), out.data(), position, cache.pages};
  kernels::latent_attention(std::span(&row, 1), shape.heads, shape.latent, shape.rope, scale, workers);
  return out;
}

}  // namespace

TEST_CASE("latent_attention equals its formulas in bits") {
  Random random(31);
  runtime::InlineWorkers workers;
  for (const Shape shape :
       {Shape{1, 16, 8}, Shape{3, 20, 4}, Shape{4, 64, 16}, Shape{7, 40, 6}, Shape{16, 512, 64}, Shape{21, 33, 2}}) {
    for (const std::int64_t position : {0, 1, 15, 16, 62, 63, 64, 65, 127, 128, 200}) {
      const Cache cache(random, shape, position + 1);
      const auto query = random.values(shape.heads * shape.width(), 2.0f);
      const auto out = attend(query, cache, shape, position, 0.3f, workers);
      for (std::int64_t h = 0; h < shape.heads; ++h) {
        const auto expected = naive_head(query.data() + h * shape.width(), cache, shape, position, 0.3f);
        CAPTURE(shape.heads);
        CAPTURE(shape.latent);
        CAPTURE(position);
        CAPTURE(h);
        CHECK(first_difference(std::span(out).subspan(static_cast<std::size_t>(h * shape.latent), expected.size()),
                               expected) == -1);
      }
    }
  }
}

TEST_CASE("a row of latent_attention has the same bits alone, among others and on three threads") {
  Random random(32);
  runtime::InlineWorkers one;
  ThreadedWorkers three(3);
  const Shape shape{20, 128, 16};
  const Cache cache(random, shape, 300);
  std::vector<std::vector<float>> query;
  std::vector<std::vector<float>> out(30, std::vector<float>(static_cast<std::size_t>(shape.heads * shape.latent)));
  std::vector<kernels::LatentQuery> rows;
  for (std::size_t i = 0; i < out.size(); ++i) query.push_back(random.values(shape.heads * shape.width()));
  for (std::size_t i = 0; i < out.size(); ++i) {
    rows.push_back({query[i].data(), out[i].data(), static_cast<std::int64_t>(i * 10), cache.pages});
  }
  kernels::latent_attention(rows, shape.heads, shape.latent, shape.rope, 0.1f, three);
  for (std::size_t i = 0; i < out.size(); ++i) {
    CHECK(first_difference(attend(query[i], cache, shape, rows[i].position, 0.1f, one), out[i]) == -1);
  }
}

TEST_CASE("latent_attention never reads beyond its position") {
  Random random(33);
  runtime::InlineWorkers workers;
  const Shape shape{5, 48, 8};
  for (const std::int64_t position : {0, 20, 64, 100}) {
    Cache cache(random, shape, 128);
    const auto query = random.values(shape.heads * shape.width());
    const auto before = attend(query, cache, shape, position, 0.2f, workers);
    for (std::int64_t p = position + 1; p < 128; ++p) {
      float* row = cache.memory[static_cast<std::size_t>(p / 64)].data() + p % 64 * shape.width();
      std::fill_n(row, shape.width(), std::numeric_limits<float>::quiet_NaN());
    }
    CHECK(first_difference(attend(query, cache, shape, position, 0.2f, workers), before) == -1);
  }
}

TEST_CASE("latent_attention agrees with a softmax in double") {
  Random random(34);
  runtime::InlineWorkers workers;
  const Shape shape{2, 64, 16};
  const std::int64_t position = 700;
  const Cache cache(random, shape, position + 1);
  const auto query = random.values(shape.heads * shape.width(), 3.0f);
  const auto out = attend(query, cache, shape, position, 0.5f, workers);
  for (std::int64_t h = 0; h < shape.heads; ++h) {
    std::vector<double> z;
    double largest = -1e300;
    for (std::int64_t p = 0; p <= position; ++p) {
      double dot = 0.0;
      for (std::int64_t i = 0; i < shape.width(); ++i) {
        dot += double{query[static_cast<std::size_t>(h * shape.width() + i)]} * double{cache.row(p, shape)[i]};
      }
      z.push_back(0.5 * dot);
      largest = std::max(largest, z.back());
    }
    double total = 0.0;
    std::vector<double> exact(64);
    for (std::int64_t p = 0; p <= position; ++p) {
      const double e = std::exp(z[static_cast<std::size_t>(p)] - largest);
      total += e;
      for (std::size_t c = 0; c < 64; ++c) exact[c] += e * double{cache.row(p, shape)[c]};
    }
    for (std::size_t c = 0; c < 64; ++c) {
      // Scores of up to about 20 carry errors of 20 * 2^-23, which the exponential passes on to values below 1.
      CHECK(std::abs(double{out[static_cast<std::size_t>(h * 64) + c]} - exact[c] / total) < 1e-5);
    }
  }
}

TEST_CASE("latent_attention lets NaN through to its own head only") {
  Random random(35);
  runtime::InlineWorkers workers;
  const Shape shape{3, 24, 8};
  for (const std::int64_t position : {5, 90}) {
    const Cache cache(random, shape, position + 1);
    auto query = random.values(shape.heads * shape.width());
    query[static_cast<std::size_t>(shape.width() + 2)] = std::numeric_limits<float>::quiet_NaN();
    const auto out = attend(query, cache, shape, position, 0.2f, workers);
    for (std::size_t i = 0; i < out.size(); ++i) CHECK(std::isnan(out[i]) == (i / 24 == 1));
  }
}

}  // namespace consort::tests
