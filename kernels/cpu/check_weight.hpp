// Refuses a WeightMatrix that no CPU kernel can read.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/weight.hpp"
#include "runtime/check.hpp"

namespace consort::kernels::cpu {

inline void check_weight(const WeightMatrix& weight) {
  using runtime::Dtype;
  CONSORT_CHECK(weight.dtype == Dtype::kF32 || weight.dtype == Dtype::kF16 || weight.dtype == Dtype::kBf16 ||
                    weight.dtype == Dtype::kF8E4m3,
                runtime::name(weight.dtype));
  CONSORT_CHECK(weight.rows >= 0 && weight.cols >= 0 && weight.row_stride >= weight.cols, weight.rows, weight.cols,
                weight.row_stride);
  CONSORT_CHECK(weight.data != nullptr || weight.rows * weight.cols == 0, weight.rows, weight.cols);
  CONSORT_CHECK(weight.dtype != Dtype::kF8E4m3 || weight.scale_inv != nullptr || weight.rows * weight.cols == 0,
                weight.rows);
  CONSORT_CHECK(weight.row_origin >= 0 && weight.col_origin >= 0, weight.row_origin, weight.col_origin);
}

}  // namespace consort::kernels::cpu
