// Expands stored weights to F32 in registers: one vector of F32, F16, BF16 or F8_E4M3.
// SPDX-License-Identifier: Apache-2.0

#if defined(CONSORT_KERNELS_CPU_EXPAND_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef CONSORT_KERNELS_CPU_EXPAND_INL
#undef CONSORT_KERNELS_CPU_EXPAND_INL
#else
#define CONSORT_KERNELS_CPU_EXPAND_INL
#endif

#include <algorithm>

#include "kernels/cpu/lanes-inl.hpp"
#include "kernels/weight.hpp"

HWY_BEFORE_NAMESPACE();
namespace consort::kernels {
namespace HWY_NAMESPACE {

// How a dtype lies in memory, and its F32 value.
struct F32Weight {
  using Stored = float;
  static HWY_INLINE V expand(const float* p) { return hn::LoadU(D(), p); }
};

struct Bf16Weight {
  using Stored = std::uint16_t;
  static HWY_INLINE V expand(const std::uint16_t* p) {
    const hn::RebindToUnsigned<D> d32;
    const hn::Rebind<std::uint16_t, D> d16;
    return hn::BitCast(D(), hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, p))));
  }
};

struct F16Weight {
  using Stored = std::uint16_t;
  static HWY_INLINE V expand(const std::uint16_t* p) {
    const hn::Rebind<hwy::float16_t, D> d16;
    const hn::Rebind<std::uint16_t, D> du16;
    return hn::PromoteTo(D(), hn::BitCast(d16, hn::LoadU(du16, p)));
  }
};

// E4M3 without its scale. Moved into an F16 the bits mean value / 256, subnormals too; the instruction set then widens
// it.
struct Fp8Weight {
  using Stored = std::uint8_t;
  static HWY_INLINE V expand(const std::uint8_t* p) {
    const hn::Rebind<std::uint8_t, D> d8;
    const hn::Rebind<std::uint16_t, D> du16;
    const hn::Rebind<hwy::float16_t, D> d16;
    const auto wide = hn::PromoteTo(du16, hn::LoadU(d8, p));
    const auto magnitude = hn::ShiftLeft<7>(hn::And(wide, hn::Set(du16, std::uint16_t{0x7F})));
    const auto sign = hn::ShiftLeft<8>(hn::And(wide, hn::Set(du16, std::uint16_t{0x80})));
    // 0x7F is NaN: only there does the carry reach bit 14, which with the bits already set makes an F16 NaN.
    const auto nan =
        hn::And(hn::Add(magnitude, hn::Set(du16, std::uint16_t{0x80})), hn::Set(du16, std::uint16_t{0x4000}));
    const auto half = hn::Or(hn::Or(magnitude, sign), nan);
    return hn::Mul(hn::PromoteTo(D(), hn::BitCast(d16, half)), hn::Set(D(), 256.0f));
  }
};

// out[i] = F32 value of p[i]; no scale.
template <class Weight>
HWY_INLINE void expand_plain(float* HWY_RESTRICT out, const typename Weight::Stored* HWY_RESTRICT p, std::size_t n) {
  std::size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) hn::StoreU(Weight::expand(p + i), D(), out + i);
  if (i == n) return;
  typename Weight::Stored rest[kLanes] = {};
  HWY_ALIGN float values[kLanes];
  std::memcpy(rest, p + i, (n - i) * sizeof(p[0]));
  hn::StoreU(Weight::expand(rest), D(), values);
  std::memcpy(out + i, values, (n - i) * sizeof(float));
}

// Columns of one row that share a scale.
HWY_INLINE void expand_fp8_block(float* HWY_RESTRICT out, const std::uint8_t* HWY_RESTRICT p, std::size_t n,
                                 float scale) {
  const D d;
  const V scales = hn::Set(d, scale);
  std::size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) hn::StoreU(hn::Mul(Fp8Weight::expand(p + i), scales), d, out + i);
  if (i == n) return;
  std::uint8_t rest[kLanes] = {};
  HWY_ALIGN float values[kLanes];
  std::memcpy(rest, p + i, n - i);
  hn::StoreU(hn::Mul(Fp8Weight::expand(rest), scales), d, values);
  std::memcpy(out + i, values, (n - i) * sizeof(float));
}

// out[i] = F32 value of element (row, first + i) of the weight, i in [0, n).
HWY_INLINE void expand_piece(float* HWY_RESTRICT out, const WeightMatrix& weight, std::int64_t row, std::int64_t first,
                             std::int64_t n) {
  const std::int64_t at = row * weight.row_stride + first;
  const auto count = static_cast<std::size_t>(n);
  switch (weight.dtype) {
    case runtime::Dtype::kF32:
      std::memcpy(out, reinterpret_cast<const float*>(weight.data) + at, count * sizeof(float));
      return;
    case runtime::Dtype::kBf16:
      expand_plain<Bf16Weight>(out, reinterpret_cast<const std::uint16_t*>(weight.data) + at, count);
      return;
    case runtime::Dtype::kF16:
      expand_plain<F16Weight>(out, reinterpret_cast<const std::uint16_t*>(weight.data) + at, count);
      return;
    default:
      break;  // FP8; check_weight() let nothing else through
  }
  const auto* stored = reinterpret_cast<const std::uint8_t*>(weight.data) + at;
  const float* scales = weight.scale_inv + (weight.row_origin + row) / kScaleBlock * weight.scale_stride;
  for (std::int64_t i = 0; i < n;) {
    const std::int64_t column = weight.col_origin + first + i;
    const std::int64_t end = std::min(n, i + kScaleBlock - column % kScaleBlock);
    expand_fp8_block(out + i, stored + i, static_cast<std::size_t>(end - i), scales[column / kScaleBlock]);
    i = end;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace consort::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
