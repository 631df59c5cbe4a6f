// The largest values of a row, in an order that no device may change: larger first, equal ones by the lower index.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

namespace consort::kernels {

// Fills indices with the positions of the indices.size() largest values of x, largest first; -0 equals +0, and NaN is
// below everything. indices.size() <= x.size().
void top_k(std::span<std::int32_t> indices, std::span<const float> x);

// The position of the largest value, the lowest of equal ones. x is not empty.
std::int32_t argmax(std::span<const float> x);

}  // namespace consort::kernels
