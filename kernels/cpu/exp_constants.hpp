// Constants of exp(float), shared by its scalar and its vector form so that both give the same bits.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace consort::kernels::exp_constants {

inline constexpr float kLowest = -105.0f;  // exp is below half the smallest subnormal: rounds to +0
inline constexpr float kHighest = 89.0f;   // exp is above the largest float: rounds to +inf
inline constexpr float kLog2E = 0x1.715476p+0f;
inline constexpr float kRound = 0x1.8p+23f;  // adding it leaves an integer in the low bits of the significand
inline constexpr std::int32_t kRoundBits = 0x4B400000;
inline constexpr float kLn2High = 0x1.62e400p-1f;  // 14 bits, so n * kLn2High is exact for |n| < 2^10
inline constexpr float kLn2Low = 0x1.7f7d1cp-20f;  // ln 2 - kLn2High
// Taylor: 1/7!, 1/6!, ..., 1/2!. On |r| <= ln(2)/2 the first term left out is below 2^-27 of the result.
inline constexpr float kPolynomial[] = {0x1.a01a02p-13f, 0x1.6c16c2p-10f, 0x1.111112p-7f,
                                        0x1.555556p-5f,  0x1.555556p-3f,  0x1p-1f};
inline constexpr std::size_t kPolynomialCount = sizeof(kPolynomial) / sizeof(kPolynomial[0]);

}  // namespace consort::kernels::exp_constants
