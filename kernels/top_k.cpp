#include "kernels/top_k.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/check.hpp"

namespace consort::kernels {
namespace {

// Strictly larger, with NaN below everything. Values met later have higher indices, so a tie is never "above".
bool above(float a, float b) { return a > b || (std::isnan(b) && !std::isnan(a)); }

}  // namespace

void top_k(std::span<std::int32_t> indices, std::span<const float> x) {
  const std::size_t k = indices.size();
  CONSORT_CHECK(k <= x.size() && x.size() <= std::size_t{std::numeric_limits<std::int32_t>::max()}, k, x.size());
  if (k == 0) return;
  // An insertion into the sorted prefix: few values pass the first comparison once the prefix has filled.
  std::size_t count = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (count == k && !above(x[i], x[static_cast<std::size_t>(indices[k - 1])])) continue;
    const auto filled = indices.first(count);
    const auto place = std::upper_bound(filled.begin(), filled.end(), x[i], [&](float value, std::int32_t index) {
      return above(value, x[static_cast<std::size_t>(index)]);
    });
    const auto at = static_cast<std::size_t>(place - filled.begin());
    if (count < k) ++count;
    std::move_backward(indices.begin() + static_cast<std::ptrdiff_t>(at),
                       indices.begin() + static_cast<std::ptrdiff_t>(count - 1),
                       indices.begin() + static_cast<std::ptrdiff_t>(count));
    indices[at] = static_cast<std::int32_t>(i);
  }
}

std::int32_t argmax(std::span<const float> x) {
  CONSORT_CHECK(!x.empty() && x.size() <= std::size_t{std::numeric_limits<std::int32_t>::max()}, x.size());
  std::size_t best = 0;
  for (std::size_t i = 1; i < x.size(); ++i) {
    if (above(x[i], x[best])) best = i;
  }
  return static_cast<std::int32_t>(best);
}

}  // namespace consort::kernels
