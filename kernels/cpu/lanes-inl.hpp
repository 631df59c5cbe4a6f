// The canonical numeric class in vectors: 16 F32 lanes, the tree 8-4-2-1, exp. One source for every instruction set.
// SPDX-License-Identifier: Apache-2.0

// Toggled by foreach_target.h, so that every target includes it once.
#if defined(CONSORT_KERNELS_CPU_LANES_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef CONSORT_KERNELS_CPU_LANES_INL
#undef CONSORT_KERNELS_CPU_LANES_INL
#else
#define CONSORT_KERNELS_CPU_LANES_INL
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <hwy/highway.h>

#include "kernels/cpu/exp_constants.hpp"

#if defined(__clang__)
#define CONSORT_UNROLL _Pragma("clang loop unroll(full)")
#else
#define CONSORT_UNROLL _Pragma("GCC unroll 16")
#endif

HWY_BEFORE_NAMESPACE();
namespace consort::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

static_assert(HWY_NATIVE_FMA == 1 || HWY_TARGET == HWY_NEON, "a target without fused multiply-add is not canonical");

inline constexpr std::size_t kLanes = 16;
using D = hn::CappedTag<float, kLanes>;
using V = hn::Vec<D>;
inline constexpr std::size_t kWidth = HWY_LANES(float) < kLanes ? HWY_LANES(float) : kLanes;  // lanes of one vector
inline constexpr std::size_t kVectors = kLanes / kWidth;                                      // vectors of 16 lanes
using D4 = hn::CappedTag<float, 4>;
using V4 = hn::Vec<D4>;

// Sixteen lanes; vector v holds lanes v * kWidth and up.
struct Lanes {
  HWY_INLINE Lanes() {}  // written out: GCC compiles an implicit one without the target's attributes
  V v[kVectors];
};

HWY_INLINE Lanes zero_lanes() {
  Lanes lanes;
  CONSORT_UNROLL
  for (std::size_t i = 0; i < kVectors; ++i) lanes.v[i] = hn::Zero(D());
  return lanes;
}

HWY_INLINE Lanes load_lanes(const float* p) {
  Lanes lanes;
  CONSORT_UNROLL
  for (std::size_t i = 0; i < kVectors; ++i) lanes.v[i] = hn::LoadU(D(), p + i * kWidth);
  return lanes;
}

// Levels 8 and 4 of the tree: what is left are lanes 0..3.
HWY_INLINE V4 fold_to_four(Lanes a) {
#if HWY_MAX_BYTES >= 64
  const hn::CappedTag<float, 8> d8;
  const auto eight = hn::Add(hn::LowerHalf(d8, a.v[0]), hn::UpperHalf(d8, a.v[0]));
  return hn::Add(hn::LowerHalf(D4(), eight), hn::UpperHalf(D4(), eight));
#elif HWY_MAX_BYTES == 32
  const auto eight = hn::Add(a.v[0], a.v[1]);
  return hn::Add(hn::LowerHalf(D4(), eight), hn::UpperHalf(D4(), eight));
#else
  return hn::Add(hn::Add(a.v[0], a.v[2]), hn::Add(a.v[1], a.v[3]));
#endif
}

// Levels 2 and 1 for four sums at once: element i of the result is the sum of row i.
HWY_INLINE V4 fold_four(V4 r0, V4 r1, V4 r2, V4 r3) {
  const D4 d;
  const auto a = hn::InterleaveLower(d, r0, r1);  // r0[0] r1[0] r0[1] r1[1]
  const auto b = hn::InterleaveUpper(d, r0, r1);  // r0[2] r1[2] r0[3] r1[3]
  const auto e = hn::InterleaveLower(d, r2, r3);
  const auto f = hn::InterleaveUpper(d, r2, r3);
  const auto ab = hn::Add(a, b);  // r0[0]+[2], r1, r0[1]+[3], r1
  const auto ef = hn::Add(e, f);
  return hn::Add(hn::ConcatLowerLower(d, ef, ab), hn::ConcatUpperUpper(d, ef, ab));
}

HWY_INLINE float sum(Lanes lanes) {
  const auto four = fold_to_four(lanes);
  return hn::GetLane(fold_four(four, four, four, four));
}

// Copies `count` < 16 values and fills up with +0.
HWY_INLINE void pad_to_lanes(float* HWY_RESTRICT padded, const float* HWY_RESTRICT values, std::size_t count) {
  std::memset(padded, 0, kLanes * sizeof(float));
  std::memcpy(padded, values, count * sizeof(float));
}

HWY_INLINE Lanes multiply_add(Lanes a, Lanes b, Lanes sum) {
  CONSORT_UNROLL
  for (std::size_t i = 0; i < kVectors; ++i) sum.v[i] = hn::MulAdd(a.v[i], b.v[i], sum.v[i]);
  return sum;
}

HWY_INLINE float dot_lanes(const float* a, const float* b, std::size_t n) {
  Lanes total = zero_lanes();
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) total = multiply_add(load_lanes(a + i), load_lanes(b + i), total);
  if (i < n) {
    HWY_ALIGN float pa[kLanes];
    HWY_ALIGN float pb[kLanes];
    pad_to_lanes(pa, a + i, n - i);
    pad_to_lanes(pb, b + i, n - i);
    total = multiply_add(load_lanes(pa), load_lanes(pb), total);
  }
  return sum(total);
}

// The vector form of kernels::exp(float), with the same bits; see scalar_math.cpp for the why of each step.
HWY_INLINE V exp_lanes(V x) {
  const D d;
  const hn::RebindToSigned<D> di;
  x = hn::IfThenElse(hn::Lt(x, hn::Set(d, exp_constants::kLowest)), hn::Set(d, exp_constants::kLowest), x);
  x = hn::IfThenElse(hn::Gt(x, hn::Set(d, exp_constants::kHighest)), hn::Set(d, exp_constants::kHighest), x);
  const auto shifted = hn::MulAdd(x, hn::Set(d, exp_constants::kLog2E), hn::Set(d, exp_constants::kRound));
  const auto n = hn::Sub(shifted, hn::Set(d, exp_constants::kRound));
  const auto whole = hn::Sub(hn::BitCast(di, shifted), hn::Set(di, exp_constants::kRoundBits));
  V r = hn::NegMulAdd(n, hn::Set(d, exp_constants::kLn2High), x);
  r = hn::NegMulAdd(n, hn::Set(d, exp_constants::kLn2Low), r);
  V q = hn::Set(d, exp_constants::kPolynomial[0]);
  CONSORT_UNROLL
  for (std::size_t i = 1; i < exp_constants::kPolynomialCount; ++i) {
    q = hn::MulAdd(q, r, hn::Set(d, exp_constants::kPolynomial[i]));
  }
  const auto near_one = hn::Add(hn::MulAdd(q, hn::Mul(r, r), r), hn::Set(d, 1.0f));
  const auto half = hn::ShiftRight<1>(whole);
  const auto bias = hn::Set(di, 127);
  const auto scale_a = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
  const auto scale_b = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(whole, half), bias)));
  return hn::Mul(hn::Mul(near_one, scale_a), scale_b);
}

// Calls body(pointer) for whole vectors of [0, n), and once more for a rest through a padded copy.
// body reads and writes one vector in place.
template <class Body>
HWY_INLINE void for_each_vector(float* values, std::size_t n, const Body& body) {
  std::size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) body(values + i);
  if (i < n) {
    HWY_ALIGN float padded[kLanes];
    pad_to_lanes(padded, values + i, n - i);
    body(padded);
    std::memcpy(values + i, padded, (n - i) * sizeof(float));
  }
}

// The canonical sum: lane j takes value 16i + j for i ascending, then the tree.
HWY_INLINE float sum_lanes(const float* values, std::size_t n) {
  Lanes total = zero_lanes();
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const auto next = load_lanes(values + i);
    CONSORT_UNROLL
    for (std::size_t v = 0; v < kVectors; ++v) total.v[v] = hn::Add(total.v[v], next.v[v]);
  }
  if (i < n) {
    HWY_ALIGN float padded[kLanes];
    pad_to_lanes(padded, values + i, n - i);
    const auto next = load_lanes(padded);
    CONSORT_UNROLL
    for (std::size_t v = 0; v < kVectors; ++v) total.v[v] = hn::Add(total.v[v], next.v[v]);
  }
  return sum(total);
}

// The largest value; which one comes back among NaNs does not matter, since every use ends in NaN then.
HWY_INLINE float max_of(const float* values, std::size_t n) {
  const D d;
  if (n < kWidth) {
    float largest = values[0];
    for (std::size_t i = 1; i < n; ++i) largest = values[i] > largest ? values[i] : largest;
    return largest;
  }
  V largest = hn::LoadU(d, values);
  for (std::size_t i = kWidth; i + kWidth <= n; i += kWidth) largest = hn::Max(largest, hn::LoadU(d, values + i));
  largest = hn::Max(largest, hn::LoadU(d, values + n - kWidth));
  return hn::GetLane(hn::MaxOfLanes(d, largest));
}

}  // namespace HWY_NAMESPACE
}  // namespace consort::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
