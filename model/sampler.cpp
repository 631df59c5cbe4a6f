#include "model/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <sstream>
#include <string>

#include "kernels/scalar_math.hpp"
#include "kernels/top_k.hpp"
#include "runtime/check.hpp"

namespace consort::model {
namespace {

using runtime::ErrorKind;
using runtime::Status;

// SplitMix64's finaliser (Stafford's variant 13): a bijection on 64 bits whose every output bit depends on every input
// bit.
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

template <class Value>
Status check_range(std::string_view field, Value value, Value low, bool low_included, Value high) {
  // Written so that NaN is out of range.
  if ((low_included ? value >= low : value > low) && value <= high) return runtime::done();
  std::ostringstream text;
  text << "sampling: " << field << " is " << value << "; it must be " << (low_included ? "at least " : "above ") << low
       << " and at most " << high;
  return runtime::failure(ErrorKind::kInvalid, text.str());
}

Status check_logits(std::span<const float> logits) {
  bool any_finite = false;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]) || logits[i] == std::numeric_limits<float>::infinity()) {
      return runtime::failure(ErrorKind::kInternal, "the logit of token " + std::to_string(i) + " is " +
                                                        std::to_string(logits[i]) + "; nothing can be sampled");
    }
    any_finite = any_finite || std::isfinite(logits[i]);
  }
  if (any_finite) return runtime::done();
  return runtime::failure(ErrorKind::kInternal, "no logit is finite; nothing can be sampled");
}

using Indices = std::vector<std::int32_t>;

// The count largest of values, largest first, equal ones by index. Linear in the vocabulary whatever the count, which
// kernels::top_k, made for a gate's few experts, is not.
Indices largest(std::span<const float> values, std::size_t count) {
  const auto before = [&](std::int32_t a, std::int32_t b) {
    const float left = values[static_cast<std::size_t>(a)];
    const float right = values[static_cast<std::size_t>(b)];
    return left != right ? left > right : a < b;
  };
  Indices indices(values.size());
  std::iota(indices.begin(), indices.end(), 0);
  if (count < indices.size()) {
    std::nth_element(indices.begin(), indices.begin() + static_cast<std::ptrdiff_t>(count), indices.end(), before);
    indices.resize(count);
  }
  std::sort(indices.begin(), indices.end(), before);
  return indices;
}

double sum_of(std::span<const float> weights, const Indices& kept) {
  double sum = 0.0;
  for (const std::int32_t i : kept) sum += static_cast<double>(weights[static_cast<std::size_t>(i)]);
  return sum;
}

// The shortest prefix of the tokens in order of weight whose sum reaches top_p of the total of `kept`. Nearly always a
// few dozen tokens do, so the order is found for a growing number of them. Weights outside `kept` are zero.
void keep_top_p(std::span<const float> weights, float top_p, Indices& kept) {
  const double goal = static_cast<double>(top_p) * sum_of(weights, kept);
  for (std::size_t count = 64;; count *= 16) {
    Indices order = largest(weights, std::min(count, kept.size()));
    double sum = 0.0;
    std::size_t used = 0;
    while (used < order.size() && (used == 0 || sum < goal)) {
      sum += static_cast<double>(weights[static_cast<std::size_t>(order[used++])]);
    }
    if (sum < goal && order.size() < kept.size()) continue;
    order.resize(used);
    std::sort(order.begin(), order.end());
    kept = std::move(order);
    return;
  }
}

// Softmax weights at this temperature; the largest is exactly 1.
std::vector<float> weights_of(std::span<const float> logits, float largest_logit, float temperature) {
  std::vector<float> weights(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) weights[i] = kernels::exp((logits[i] - largest_logit) / temperature);
  return weights;
}

// Walks the kept tokens by index until their weights have passed the drawn share of the total.
std::int32_t draw(std::span<const float> logits, float largest_logit, const SamplingParams& params,
                  std::uint64_t position) {
  std::vector<float> weights = weights_of(logits, largest_logit, params.temperature);
  Indices kept(logits.size());
  std::iota(kept.begin(), kept.end(), 0);
  if (params.top_k > 0 && static_cast<std::size_t>(params.top_k) < logits.size()) {
    // By logit, not by weight: two logits may share a weight. The others' weights become zero for top_p.
    kept = largest(logits, static_cast<std::size_t>(params.top_k));
    std::sort(kept.begin(), kept.end());
    std::vector<float> kept_weights(weights.size(), 0.0F);
    for (const std::int32_t i : kept) kept_weights[static_cast<std::size_t>(i)] = weights[static_cast<std::size_t>(i)];
    weights = std::move(kept_weights);
  }
  if (params.top_p < 1.0F) keep_top_p(weights, params.top_p, kept);
  if (params.min_p > 0.0F) {
    std::erase_if(kept, [&](std::int32_t i) { return weights[static_cast<std::size_t>(i)] < params.min_p; });
  }
  const double target = uniform_draw(params.seed, position) * sum_of(weights, kept);
  double passed = 0.0;
  for (const std::int32_t i : kept) {
    passed += static_cast<double>(weights[static_cast<std::size_t>(i)]);
    if (passed > target) return i;
  }
  // The target is below the same sum in the same order, since the draw is below 1, unless it rounded up to the sum.
  const auto heaviest = std::max_element(kept.begin(), kept.end(), [&](std::int32_t a, std::int32_t b) {
    return weights[static_cast<std::size_t>(a)] < weights[static_cast<std::size_t>(b)];
  });
  return *heaviest;
}

}  // namespace

double uniform_draw(std::uint64_t seed, std::uint64_t position) {
  const std::uint64_t key = mix(seed ^ 0xC0250127ULL);
  const std::uint64_t bits = mix(key + (position + 1) * 0x9E3779B97F4A7C15ULL);
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

Status check(const SamplingParams& params) {
  constexpr std::int32_t kMaxTopK = std::numeric_limits<std::int32_t>::max();
  CONSORT_RETURN_IF_ERROR(check_range("temperature", params.temperature, 0.0F, true, kMaxTemperature));
  CONSORT_RETURN_IF_ERROR(check_range("top_k", params.top_k, 0, true, kMaxTopK));
  CONSORT_RETURN_IF_ERROR(check_range("top_p", params.top_p, 0.0F, false, 1.0F));
  CONSORT_RETURN_IF_ERROR(check_range("min_p", params.min_p, 0.0F, true, 1.0F));
  return check_range("top_logprobs", params.top_logprobs, 0, true, kMaxTopLogprobs);
}

runtime::Outcome<SampledToken> sample(std::span<const float> logits, const SamplingParams& params,
                                      std::uint64_t position, const LogitAdjustment& adjustment) {
  CONSORT_CHECK(!logits.empty());
  CONSORT_RETURN_IF_ERROR(check_logits(logits));
  const std::int32_t best = kernels::argmax(logits);
  const float largest_logit = logits[static_cast<std::size_t>(best)];
  double sum = 0.0;
  for (const float logit : logits) sum += static_cast<double>(kernels::exp(logit - largest_logit));
  const double log_sum = kernels::log(sum);
  const auto logprob = [&](std::int32_t token) {
    const float logit = logits[static_cast<std::size_t>(token)];
    return static_cast<float>((static_cast<double>(logit) - static_cast<double>(largest_logit)) - log_sum);
  };
  const auto choose = [&](std::span<const float> from, std::int32_t top) {
    return params.temperature == 0.0F ? top : draw(from, from[static_cast<std::size_t>(top)], params, position);
  };
  SampledToken result;
  if (adjustment.is_empty()) {
    result.token = choose(logits, best);
  } else {
    std::vector<float> adjusted(logits.begin(), logits.end());
    adjust(adjusted, adjustment);
    const std::int32_t top = kernels::argmax(adjusted);
    if (!std::isfinite(adjusted[static_cast<std::size_t>(top)])) {
      return runtime::failure(ErrorKind::kInternal, "the mask and the biases leave no token to sample");
    }
    result.token = choose(adjusted, top);
  }
  result.logprob = logprob(result.token);
  if (params.top_logprobs > 0) {
    for (const std::int32_t token : largest(logits, static_cast<std::size_t>(params.top_logprobs))) {
      result.alternatives.push_back({token, logprob(token)});
    }
  }
  return result;
}

}  // namespace consort::model
