#include "model/gate.hpp"

#include <algorithm>
#include <limits>

#include "kernels/vector.hpp"

namespace consort::model {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// Marks the `count` largest of the allowed values; ties, and what cannot be compared, go to the lower index.
void take_largest(std::span<const float> values, std::span<const std::uint8_t> allowed, std::int64_t count,
                  std::span<std::uint8_t> taken) {
  std::fill(taken.begin(), taken.end(), std::uint8_t{0});
  for (std::int64_t n = 0; n < count; ++n) {
    std::size_t best = values.size();
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!allowed[i] || taken[i]) continue;
      if (best == values.size() || values[i] > values[best]) best = i;
    }
    taken[best] = 1;
  }
}

float sum_of_two_largest(std::span<const float> values) {
  float first = kLowest, second = kLowest;
  for (const float v : values) {
    if (v > first) {
      second = first;
      first = v;
    } else if (v > second) {
      second = v;
    }
  }
  return first + second;
}

}  // namespace

void choose_experts(Routes& routes, const ModelConfig& config, runtime::TensorView logits,
                    std::span<const float> bias) {
  const auto experts = static_cast<std::size_t>(config.n_routed_experts);
  const auto groups = static_cast<std::size_t>(config.n_group);
  const std::size_t group_size = experts / groups;
  const bool noaux = config.topk_method == TopkMethod::kNoauxTc;
  CONSORT_CHECK(logits.cols() == config.n_routed_experts && (!noaux || bias.size() == experts), logits.cols());

  routes.tokens = logits.rows();
  routes.top_k = config.num_experts_per_tok;
  routes.experts.clear();
  routes.weights.clear();
  std::vector<float> choice(experts), group_score(groups);
  std::vector<std::uint8_t> allowed(experts), taken(experts), every_group(groups, 1), group_taken(groups, 1);
  for (std::int64_t t = 0; t < routes.tokens; ++t) {
    const std::span<float> scores(logits.f32(t), experts);
    if (noaux) {
      kernels::sigmoid(scores);
    } else {
      kernels::softmax(scores);
    }
    for (std::size_t e = 0; e < experts; ++e) choice[e] = noaux ? scores[e] + bias[e] : scores[e];
    if (groups > 1) {
      for (std::size_t g = 0; g < groups; ++g) {
        const std::span<const float> group = std::span(choice).subspan(g * group_size, group_size);
        group_score[g] = noaux ? sum_of_two_largest(group) : *std::max_element(group.begin(), group.end());
      }
      take_largest(group_score, every_group, config.topk_group, group_taken);
    }
    for (std::size_t e = 0; e < experts; ++e) allowed[e] = group_taken[e / group_size];
    take_largest(choice, allowed, routes.top_k, taken);

    float sum = 0.0F;
    for (std::size_t e = 0; e < experts; ++e) sum += taken[e] ? scores[e] : 0.0F;
    const auto scaling = static_cast<float>(config.routed_scaling_factor);
    for (std::size_t e = 0; e < experts; ++e) {
      if (!taken[e]) continue;
      const float share = config.norm_topk_prob ? scores[e] / (sum + 1e-20F) : scores[e];
      routes.experts.push_back(static_cast<std::uint32_t>(e));
      routes.weights.push_back(share * scaling);
    }
  }
}

std::vector<Assignment> by_expert(const Routes& routes, std::span<const std::uint8_t> alive) {
  std::vector<Assignment> all;
  all.reserve(routes.experts.size());
  for (std::int64_t t = 0; t < routes.tokens; ++t) {
    if (!alive.empty() && !alive[static_cast<std::size_t>(t)]) continue;
    for (std::int64_t k = 0; k < routes.top_k; ++k)
      all.push_back({routes.experts[routes.at(t, k)], static_cast<std::uint32_t>(t), static_cast<std::uint32_t>(k)});
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Assignment& a, const Assignment& b) { return a.expert < b.expert; });
  return all;
}

}  // namespace consort::model
