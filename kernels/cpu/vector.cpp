// vector.hpp on the CPU, compiled once per instruction set.
#include "kernels/vector.hpp"

#include <cmath>

#include "kernels/cpu/check_weight.hpp"
#include "kernels/cpu/dispatch.hpp"
#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/vector.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/expand-inl.hpp"
#include "kernels/cpu/lanes-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace consort::kernels {
namespace HWY_NAMESPACE {

float dot_row(const float* a, const float* b, std::size_t n) { return dot_lanes(a, b, n); }

void rms_norm_row(float* out, const float* x, const float* weight, std::size_t n, float eps) {
  const D d;
  const float mean = dot_lanes(x, x, n) / static_cast<float>(n);
  const float r = 1.0f / std::sqrt(mean + eps);
  const V rs = hn::Set(d, r);
  std::size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    hn::StoreU(hn::Mul(hn::LoadU(d, weight + i), hn::Mul(hn::LoadU(d, x + i), rs)), d, out + i);
  }
  for (; i < n; ++i) out[i] = weight[i] * (x[i] * r);
}

HWY_INLINE V sigmoid_lanes(V x) {
  const V one = hn::Set(D(), 1.0f);
  return hn::Div(one, hn::Add(one, exp_lanes(hn::Neg(x))));
}

HWY_INLINE V silu_mul_lanes(V gate, V up) {
  const V one = hn::Set(D(), 1.0f);
  return hn::Mul(hn::Div(gate, hn::Add(one, exp_lanes(hn::Neg(gate)))), up);
}

void silu_mul_row(float* out, const float* gate, const float* up, std::size_t n) {
  const D d;
  std::size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    hn::StoreU(silu_mul_lanes(hn::LoadU(d, gate + i), hn::LoadU(d, up + i)), d, out + i);
  }
  if (i == n) return;
  HWY_ALIGN float g[kLanes];
  HWY_ALIGN float u[kLanes];
  pad_to_lanes(g, gate + i, n - i);
  pad_to_lanes(u, up + i, n - i);
  hn::StoreU(silu_mul_lanes(hn::LoadU(d, g), hn::LoadU(d, u)), d, g);
  std::memcpy(out + i, g, (n - i) * sizeof(float));
}

void sigmoid_row(float* x, std::size_t n) {
  for_each_vector(x, n, [](float* p) HWY_ATTR { hn::StoreU(sigmoid_lanes(hn::LoadU(D(), p)), D(), p); });
}

void softmax_row(float* x, std::size_t n) {
  const V largest = hn::Set(D(), max_of(x, n));
  for_each_vector(x, n, [&](float* p) HWY_ATTR { hn::StoreU(exp_lanes(hn::Sub(hn::LoadU(D(), p), largest)), D(), p); });
  const V total = hn::Set(D(), sum_lanes(x, n));
  for_each_vector(x, n, [&](float* p) HWY_ATTR { hn::StoreU(hn::Div(hn::LoadU(D(), p), total), D(), p); });
}

void rotate_row(float* x, const float* cos, const float* sin, std::size_t pairs) {
  const D d;
  std::size_t i = 0;
  for (; i + kWidth <= pairs; i += kWidth) {
    V a;
    V b;
    hn::LoadInterleaved2(d, x + 2 * i, a, b);
    const V c = hn::LoadU(d, cos + i);
    const V s = hn::LoadU(d, sin + i);
    hn::StoreInterleaved2(hn::NegMulAdd(b, s, hn::Mul(a, c)), hn::MulAdd(a, s, hn::Mul(b, c)), d, x + 2 * i);
  }
  for (; i < pairs; ++i) {
    const float a = x[2 * i];
    const float b = x[2 * i + 1];
    x[2 * i] = std::fma(-b, sin[i], a * cos[i]);
    x[2 * i + 1] = std::fma(a, sin[i], b * cos[i]);
  }
}

void add_row(float* out, const float* x, std::size_t n) {
  const D d;
  std::size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) hn::StoreU(hn::Add(hn::LoadU(d, out + i), hn::LoadU(d, x + i)), d, out + i);
  for (; i < n; ++i) out[i] += x[i];
}

void add_scaled_row(float* out, float weight, const float* x, std::size_t n) {
  const D d;
  const V w = hn::Set(d, weight);
  std::size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    hn::StoreU(hn::MulAdd(w, hn::LoadU(d, x + i), hn::LoadU(d, out + i)), d, out + i);
  }
  for (; i < n; ++i) out[i] = std::fma(weight, x[i], out[i]);
}

void expand_whole_row(float* out, const WeightMatrix& weight, std::int64_t row) {
  expand_piece(out, weight, row, 0, weight.cols);
}

}  // namespace HWY_NAMESPACE
}  // namespace consort::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace consort::kernels {
namespace {

using runtime::ConstTensorView;
using runtime::Dtype;
using runtime::TensorView;

void check_f32(const ConstTensorView& view, const ConstTensorView& like) {
  CONSORT_CHECK(view.dtype() == Dtype::kF32, runtime::describe(view));
  CONSORT_CHECK(view.rows() == like.rows() && view.cols() == like.cols(), runtime::describe(view),
                runtime::describe(like));
}

std::size_t width(const ConstTensorView& view) { return static_cast<std::size_t>(view.cols()); }

}  // namespace

float dot(std::span<const float> a, std::span<const float> b) {
  CONSORT_CHECK(a.size() == b.size(), a.size(), b.size());
  return CONSORT_CHOOSE(float(const float*, const float*, std::size_t), dot_row)(a.data(), b.data(), a.size());
}

void rms_norm(TensorView out, ConstTensorView x, std::span<const float> weight, float eps) {
  check_f32(out, x);
  check_f32(x, x);
  CONSORT_CHECK(weight.size() == width(x) && !weight.empty(), weight.size(), width(x));
  auto* row = CONSORT_CHOOSE(void(float*, const float*, const float*, std::size_t, float), rms_norm_row);
  for (std::int64_t t = 0; t < x.rows(); ++t) row(out.f32(t), x.f32(t), weight.data(), width(x), eps);
}

void silu_mul(TensorView out, ConstTensorView gate, ConstTensorView up) {
  check_f32(out, gate);
  check_f32(gate, up);
  check_f32(up, up);
  auto* row = CONSORT_CHOOSE(void(float*, const float*, const float*, std::size_t), silu_mul_row);
  for (std::int64_t t = 0; t < out.rows(); ++t) row(out.f32(t), gate.f32(t), up.f32(t), width(out));
}

void rotate_pairs(std::span<float> x, std::span<const float> cos, std::span<const float> sin) {
  CONSORT_CHECK(x.size() == 2 * cos.size() && cos.size() == sin.size(), x.size(), cos.size(), sin.size());
  CONSORT_CHOOSE(void(float*, const float*, const float*, std::size_t), rotate_row)
  (x.data(), cos.data(), sin.data(), cos.size());
}

void add(TensorView out, ConstTensorView x) {
  check_f32(out, x);
  check_f32(x, x);
  auto* row = CONSORT_CHOOSE(void(float*, const float*, std::size_t), add_row);
  for (std::int64_t t = 0; t < out.rows(); ++t) row(out.f32(t), x.f32(t), width(out));
}

void add_scaled(std::span<float> out, float weight, std::span<const float> x) {
  CONSORT_CHECK(out.size() == x.size(), out.size(), x.size());
  CONSORT_CHOOSE(void(float*, float, const float*, std::size_t), add_scaled_row)
  (out.data(), weight, x.data(), x.size());
}

void expand_row(std::span<float> out, const WeightMatrix& weight, std::int64_t row) {
  cpu::check_weight(weight);
  CONSORT_CHECK(row >= 0 && row < weight.rows, row, weight.rows);
  CONSORT_CHECK(out.size() == static_cast<std::size_t>(weight.cols), out.size(), weight.cols);
  CONSORT_CHOOSE(void(float*, const WeightMatrix&, std::int64_t), expand_whole_row)(out.data(), weight, row);
}

void softmax(std::span<float> x) {
  if (x.empty()) return;
  CONSORT_CHOOSE(void(float*, std::size_t), softmax_row)(x.data(), x.size());
}

void sigmoid(std::span<float> x) { CONSORT_CHOOSE(void(float*, std::size_t), sigmoid_row)(x.data(), x.size()); }

}  // namespace consort::kernels
#endif  // HWY_ONCE
