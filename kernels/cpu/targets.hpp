// Which Highway targets are compiled: only those with a true fused multiply-add. Include before any Highway header.
// SPDX-License-Identifier: Apache-2.0
#pragma once

// On x86 the compiler's own baseline (SSE2) has no FMA, so AVX2 is named as the lowest target, with AVX-512 above it.
// Nothing here runs before check_cpu() has looked. Scalable vectors (SVE) cannot hold 16 lanes in a fixed array.
#if defined(__x86_64__)
#define HWY_BASELINE_TARGETS HWY_AVX2
#define HWY_DISABLED_TARGETS HWY_AVX3_DL
#elif defined(__aarch64__)
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#else
#error "The canonical numeric class is written for x86-64 and AArch64"
#endif
