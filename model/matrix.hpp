// Matrix: F32 rows that own their memory; what a pass computes in.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/tensor_view.hpp"

namespace consort::model {

// [rows, cols] F32 over somebody else's floats.
inline runtime::TensorView matrix_view(float* data, std::int64_t rows, std::int64_t cols) {
  return runtime::TensorView(reinterpret_cast<std::byte*>(data), runtime::Dtype::kF32, {rows, cols});
}
inline runtime::ConstTensorView matrix_view(const float* data, std::int64_t rows, std::int64_t cols) {
  return runtime::ConstTensorView(reinterpret_cast<const std::byte*>(data), runtime::Dtype::kF32, {rows, cols});
}

class Matrix {
 public:
  Matrix() = default;
  Matrix(std::int64_t rows, std::int64_t cols) { resize(rows, cols); }
  // Contents are kept only while cols stays the same.
  void resize(std::int64_t rows, std::int64_t cols) {
    rows_ = rows;
    cols_ = cols;
    data_.resize(static_cast<std::size_t>(rows * cols));
  }
  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  runtime::TensorView view() { return matrix_view(data_.data(), rows_, cols_); }
  runtime::ConstTensorView view() const { return matrix_view(data_.data(), rows_, cols_); }
  std::span<float> row(std::int64_t r) {
    return std::span(data_).subspan(static_cast<std::size_t>(r * cols_), static_cast<std::size_t>(cols_));
  }
  std::span<const float> row(std::int64_t r) const {
    return std::span(data_).subspan(static_cast<std::size_t>(r * cols_), static_cast<std::size_t>(cols_));
  }

 private:
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
  std::vector<float> data_;
};

}  // namespace consort::model
