// TensorView: dtype, shape and a pointer to memory that somebody else owns.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

#include "runtime/check.hpp"
#include "runtime/outcome.hpp"

namespace consort::runtime {

enum class Dtype : std::uint8_t { kF32 = 1, kF16, kBf16, kF8E4m3, kI64, kI32, kU8 };

std::int64_t dtype_bytes(Dtype dtype);
std::string_view name(Dtype dtype);  // the safetensors names: "F32", "BF16", "F8_E4M3", ...
Outcome<Dtype> dtype_from_name(std::string_view name);

inline constexpr int kMaxRank = 4;

// Row-major. Rows (all but the last dimension) may lie further apart than the last dimension is long.
template <class Byte>
class BasicTensorView {
 public:
  BasicTensorView() = default;
  BasicTensorView(Byte* data, Dtype dtype, std::initializer_list<std::int64_t> shape)
      : data_(data), dtype_(dtype), rank_(static_cast<int>(shape.size())) {
    CONSORT_CHECK(rank_ >= 1 && rank_ <= kMaxRank, rank_);
    int i = 0;
    for (auto d : shape) shape_[static_cast<std::size_t>(i++)] = d;
    row_stride_ = dim(rank_ - 1);
  }
  // A view on const memory from a view on mutable memory.
  template <class Other>
  requires(std::is_const_v<Byte> && !std::is_const_v<Other>) BasicTensorView(const BasicTensorView<Other>& other)
      : data_(other.bytes()), dtype_(other.dtype()), rank_(other.rank()), row_stride_(other.row_stride()) {
    for (int i = 0; i < rank_; ++i) shape_[static_cast<std::size_t>(i)] = other.dim(i);
  }

  Dtype dtype() const { return dtype_; }
  int rank() const { return rank_; }
  std::int64_t dim(int i) const { return shape_[static_cast<std::size_t>(i)]; }
  std::int64_t cols() const { return rank_ == 0 ? 0 : dim(rank_ - 1); }
  // The product of all dimensions but the last.
  std::int64_t rows() const {
    if (rank_ == 0) return 0;
    std::int64_t n = 1;
    for (int i = 0; i + 1 < rank_; ++i) n *= dim(i);
    return n;
  }
  std::int64_t size() const { return rows() * cols(); }
  std::int64_t row_stride() const { return row_stride_; }  // elements from one row to the next
  bool contiguous() const { return row_stride_ == cols(); }
  Byte* bytes() const { return data_; }
  std::int64_t size_bytes() const { return size() * dtype_bytes(dtype_); }

  // Row r as T; T must have the width of the dtype.
  template <class T>
  auto row(std::int64_t r) const {
    using Pointer = std::conditional_t<std::is_const_v<Byte>, const T*, T*>;
    CONSORT_CHECK(sizeof(T) == static_cast<std::size_t>(dtype_bytes(dtype_)), sizeof(T));
    return reinterpret_cast<Pointer>(data_) + r * row_stride_;
  }
  auto f32(std::int64_t r = 0) const { return row<float>(r); }

  // Rows [first, first + count) of a matrix.
  BasicTensorView slice_rows(std::int64_t first, std::int64_t count) const {
    CONSORT_CHECK(rank_ == 2 && first >= 0 && count >= 0 && first + count <= dim(0), first, count, dim(0));
    BasicTensorView v = *this;
    v.data_ = data_ + first * row_stride_ * dtype_bytes(dtype_);
    v.shape_[0] = count;
    return v;
  }
  // Columns [first, first + count) of a matrix; the rows keep their distance.
  BasicTensorView slice_cols(std::int64_t first, std::int64_t count) const {
    CONSORT_CHECK(rank_ == 2 && first >= 0 && count >= 0 && first + count <= dim(1), first, count, dim(1));
    BasicTensorView v = *this;
    v.data_ = data_ + first * dtype_bytes(dtype_);
    v.shape_[1] = count;
    return v;
  }

 private:
  Byte* data_ = nullptr;
  Dtype dtype_ = Dtype::kF32;
  int rank_ = 0;
  std::int64_t row_stride_ = 0;
  std::array<std::int64_t, kMaxRank> shape_{};
};

using TensorView = BasicTensorView<std::byte>;
using ConstTensorView = BasicTensorView<const std::byte>;

// "F32 [3, 128]"
std::string describe(const ConstTensorView& view);

}  // namespace consort::runtime
