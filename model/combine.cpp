#include "model/combine.hpp"

#include <algorithm>

#include "kernels/vector.hpp"
#include "model/matrix.hpp"

namespace consort::model {

void combine(runtime::TensorView x, const PartOutputs& outputs, const Routes& routes,
             std::span<const std::uint8_t> alive) {
  CONSORT_CHECK(outputs.tokens() == x.rows() && routes.tokens == x.rows() && outputs.top_k() == routes.top_k,
                outputs.tokens(), routes.tokens, x.rows());
  const auto hidden = static_cast<std::size_t>(x.cols());
  std::vector<float> sum(hidden);
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    if (!alive.empty() && !alive[static_cast<std::size_t>(t)]) continue;
    std::fill(sum.begin(), sum.end(), 0.0F);
    for (std::int64_t k = 0; k < routes.top_k; ++k) {
      for (std::int64_t range = 0; range < outputs.ranges(); ++range) {
        const float* row = outputs.get(t, k, range);
        CONSORT_CHECK(row != nullptr, "an output is missing:", t, k, range);
        kernels::add_scaled(sum, routes.weights[routes.at(t, k)], std::span(row, hidden));
      }
    }
    kernels::add(x.slice_rows(t, 1), matrix_view(std::as_const(sum).data(), 1, x.cols()));
  }
}

}  // namespace consort::model
