#include "model/expert_part.hpp"

#include "kernels/gemm.hpp"
#include "kernels/vector.hpp"
#include "model/matrix.hpp"
#include "model/part_weights.hpp"

namespace consort::model {

void ffn(const FfnWeights& weights, runtime::ConstTensorView x, runtime::TensorView out, runtime::Workers& workers) {
  const std::int64_t n = x.rows();
  if (n == 0) return;
  Matrix gate(n, weights.gate.matrix.rows), up(n, weights.up.matrix.rows);
  kernels::gemm(gate.view(), x, weights.gate.matrix, workers);
  kernels::gemm(up.view(), x, weights.up.matrix, workers);
  workers.parallel_for(n, [&](std::int64_t t) {
    const auto row = gate.view().slice_rows(t, 1);
    kernels::silu_mul(row, row, up.view().slice_rows(t, 1));
  });
  kernels::gemm(out, gate.view(), weights.down.matrix, workers);
}

std::int64_t hidden_size(const PartWeights& part) { return part.ffn.gate.matrix.cols; }
std::int64_t column_count(const PartWeights& part) { return part.ffn.gate.matrix.rows; }
std::uint64_t weight_bytes(const PartWeights& part) { return part.ffn.bytes(); }

void compute_part(const PartWeights& part, runtime::ConstTensorView rows, runtime::TensorView out,
                  runtime::Workers& workers) {
  CONSORT_CHECK(rows.cols() == hidden_size(part) && out.cols() == rows.cols() && out.rows() == rows.rows(), rows.cols(),
                out.cols(), rows.rows(), out.rows());
  ffn(part.ffn, rows, out, workers);
}

}  // namespace consort::model
