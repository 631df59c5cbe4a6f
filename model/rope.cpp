#include "model/rope.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/scalar_math.hpp"

namespace consort::model {
namespace {

constexpr double kPi = 3.14159265358979323846;

double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * kernels::log(factor) + 1.0;
}

// The dimension whose wave turns `rotations` times within the original context.
double correction_dim(const RopeScaling& s, double dim, double base, double rotations) {
  return dim * kernels::log(s.original_max_position_embeddings / (2.0 * kPi * rotations)) / (2.0 * kernels::log(base));
}

}  // namespace

Rope::Rope(const ModelConfig& config) {
  const std::int64_t half = config.qk_rope_head_dim / 2;
  const auto dim = static_cast<double>(config.qk_rope_head_dim);
  double low = 0.0, high = 1.0, factor = 1.0, mscale_squared = 1.0;
  if (config.rope_scaling) {
    const RopeScaling& s = *config.rope_scaling;
    factor = s.factor;
    low = std::max(std::floor(correction_dim(s, dim, config.rope_theta, s.beta_fast)), 0.0);
    high = std::min(std::ceil(correction_dim(s, dim, config.rope_theta, s.beta_slow)), dim - 1.0);
    if (low == high) high += 0.001;
    if (s.attention_factor) {
      attention_factor_ = *s.attention_factor;
    } else if (s.mscale != 0.0 && s.mscale_all_dim != 0.0) {
      attention_factor_ = yarn_mscale(factor, s.mscale) / yarn_mscale(factor, s.mscale_all_dim);
    } else {
      attention_factor_ = yarn_mscale(factor, 1.0);
    }
    if (s.mscale_all_dim != 0.0) {
      const double m = yarn_mscale(factor, s.mscale_all_dim);
      mscale_squared = m * m;
    }
  }
  for (std::int64_t i = 0; i < half; ++i) {
    const double plain = 1.0 / kernels::pow(config.rope_theta, 2.0 * static_cast<double>(i) / dim);
    const double ramp = config.rope_scaling ? std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0) : 0.0;
    inverse_frequencies_.push_back(static_cast<float>(plain / factor * ramp + plain * (1.0 - ramp)));
  }
  softmax_scale_ = static_cast<float>(mscale_squared / std::sqrt(static_cast<double>(config.qk_head_dim())));
}

void Rope::angles(std::int64_t position, std::span<float> cos, std::span<float> sin) const {
  for (std::size_t i = 0; i < inverse_frequencies_.size(); ++i) {
    const float angle = static_cast<float>(position) * inverse_frequencies_[i];
    cos[i] = static_cast<float>(kernels::cos(double{angle}) * attention_factor_);
    sin[i] = static_cast<float>(kernels::sin(double{angle}) * attention_factor_);
  }
}

}  // namespace consort::model
