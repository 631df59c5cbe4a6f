// The naive loops that every kernel is held against, and the inputs of the tests.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <thread>
#include <vector>

#include "kernels/weight.hpp"
#include "runtime/tensor_view.hpp"
#include "runtime/workers.hpp"

namespace consort::tests {

using kernels::WeightMatrix;
using runtime::ConstTensorView;
using runtime::Dtype;
using runtime::TensorView;

// The same numbers on every machine and library (SplitMix64).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t bits() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  // Uniform in [-1, 1), a multiple of 2^-23.
  float value() { return static_cast<float>(static_cast<std::int64_t>(bits() >> 40) - (1 << 23)) * 0x1p-23f; }
  std::int64_t below(std::int64_t n) { return static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(n)); }
  std::vector<float> values(std::int64_t n, float scale = 1.0f) {
    std::vector<float> v(static_cast<std::size_t>(n));
    for (auto& x : v) x = scale * value();
    return v;
  }

 private:
  std::uint64_t state_;
};

inline TensorView view(std::vector<float>& v, std::int64_t rows, std::int64_t cols) {
  return {reinterpret_cast<std::byte*>(v.data()), Dtype::kF32, {rows, cols}};
}
inline ConstTensorView view(const std::vector<float>& v, std::int64_t rows, std::int64_t cols) {
  return {reinterpret_cast<const std::byte*>(v.data()), Dtype::kF32, {rows, cols}};
}

inline float half_to_float(std::uint16_t h) {
  const int exponent = (h >> 10) & 31;
  const int fraction = h & 1023;
  const float sign = (h & 0x8000) != 0 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction != 0 ? std::numeric_limits<float>::quiet_NaN() : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  return sign * std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
}

inline float e4m3_to_float(std::uint8_t v) {
  const int exponent = (v >> 3) & 15;
  const int fraction = v & 7;
  const float sign = (v & 0x80) != 0 ? -1.0f : 1.0f;
  if (exponent == 15 && fraction == 7) return std::numeric_limits<float>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -9);
  return sign * std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
}

// A weight with its memory.
struct OwnedWeight {
  std::vector<std::byte> bytes;
  std::vector<float> scales;
  WeightMatrix matrix;
};

// Random finite weights of any dtype; rows lie `gap` elements further apart than they are long.
inline OwnedWeight random_weight(Random& random, Dtype dtype, std::int64_t rows, std::int64_t cols,
                                 std::int64_t gap = 0, std::int64_t row_origin = 0, std::int64_t col_origin = 0) {
  OwnedWeight w;
  const std::int64_t stride = cols + gap;
  const auto count = static_cast<std::size_t>(rows * stride);
  w.bytes.resize(count * static_cast<std::size_t>(runtime::dtype_bytes(dtype)));
  for (std::size_t i = 0; i < count; ++i) {
    const float value = random.value();
    if (dtype == Dtype::kF32) {
      std::memcpy(w.bytes.data() + 4 * i, &value, 4);
    } else if (dtype == Dtype::kBf16) {
      const auto stored = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
      std::memcpy(w.bytes.data() + 2 * i, &stored, 2);
    } else if (dtype == Dtype::kF16) {
      auto stored = static_cast<std::uint16_t>(random.bits());
      if ((stored & 0x7C00) == 0x7C00) stored = static_cast<std::uint16_t>(stored & ~0x4000);
      std::memcpy(w.bytes.data() + 2 * i, &stored, 2);
    } else {
      auto stored = static_cast<std::uint8_t>(random.bits());
      if ((stored & 0x7F) == 0x7F) stored = 0x40;
      std::memcpy(w.bytes.data() + i, &stored, 1);
    }
  }
  const std::int64_t scale_rows = (row_origin + rows) / 128 + 1;
  const std::int64_t scale_cols = (col_origin + cols) / 128 + 1;
  w.scales = random.values(scale_rows * scale_cols);
  w.matrix = {w.bytes.data(), dtype, rows, cols, stride, nullptr, 0, row_origin, col_origin};
  if (dtype == Dtype::kF8E4m3) {
    w.matrix.scale_inv = w.scales.data();
    w.matrix.scale_stride = scale_cols;
  }
  return w;
}

// Element (r, c) of a weight, one by one.
inline float weight_at(const WeightMatrix& w, std::int64_t r, std::int64_t c) {
  const std::int64_t at = r * w.row_stride + c;
  if (w.dtype == Dtype::kF32) return reinterpret_cast<const float*>(w.data)[at];
  if (w.dtype == Dtype::kF8E4m3) {
    const float scale = w.scale_inv[(w.row_origin + r) / 128 * w.scale_stride + (w.col_origin + c) / 128];
    return e4m3_to_float(reinterpret_cast<const std::uint8_t*>(w.data)[at]) * scale;
  }
  const std::uint16_t stored = reinterpret_cast<const std::uint16_t*>(w.data)[at];
  if (w.dtype == Dtype::kF16) return half_to_float(stored);
  return std::bit_cast<float>(static_cast<std::uint32_t>(stored) << 16);
}

inline float tree(std::array<float, 16> lanes) {
  for (std::size_t step : {8u, 4u, 2u, 1u}) {
    for (std::size_t j = 0; j < step; ++j) lanes[j] += lanes[j + step];
  }
  return lanes[0];
}

// The definition in gemm.hpp, letter by letter. a(i) and b(i) are the operands.
template <class A, class B>
float naive_dot(std::int64_t n, const A& a, const B& b) {
  std::array<float, 16> lanes{};
  for (std::int64_t i = 0; i < (n + 15) / 16 * 16; ++i) {
    float& lane = lanes[static_cast<std::size_t>(i % 16)];
    lane = i < n ? std::fma(a(i), b(i), lane) : std::fma(0.0f, 0.0f, lane);
  }
  return tree(lanes);
}

inline float naive_sum(std::span<const float> x) {
  std::array<float, 16> lanes{};
  for (std::size_t i = 0; i < (x.size() + 15) / 16 * 16; ++i) lanes[i % 16] += i < x.size() ? x[i] : 0.0f;
  return tree(lanes);
}

// Equal bits; any two NaNs are equal, since their payloads belong to the instruction set.
inline bool same_bits(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

// The position of the first difference in bits, or -1.
inline std::int64_t first_difference(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!same_bits(a[i], b[i])) return static_cast<std::int64_t>(i);
  }
  return -1;
}

// CRC-32 (reflected 0x04C11DB7) of the bits of some floats.
inline std::uint32_t crc_of(std::span<const float> values, std::uint32_t crc = 0) {
  crc = ~crc;
  for (float value : values) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (int byte = 0; byte < 4; ++byte) {
      crc ^= (bits >> (8 * byte)) & 0xFF;
      for (int k = 0; k < 8; ++k) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320u : 0u);
    }
  }
  return ~crc;
}

// Some threads that take every third piece each, to show that the cut among threads changes no bits.
class ThreadedWorkers final : public runtime::Workers {
 public:
  explicit ThreadedWorkers(int count) : count_(count) {}
  int count() const override { return count_; }
  void parallel_for(std::int64_t n, const std::function<void(std::int64_t)>& body) override {
    std::vector<std::thread> threads;
    for (int t = 0; t < count_; ++t) {
      threads.emplace_back([&, t] {
        for (std::int64_t i = t; i < n; i += count_) body(i);
      });
    }
    for (auto& thread : threads) thread.join();
  }

 private:
  int count_;
};

}  // namespace consort::tests
