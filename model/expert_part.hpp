// One recipe for computing a part, used by the plain loop in one process and by the actors that hold parts.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "runtime/tensor_view.hpp"
#include "runtime/workers.hpp"

namespace consort::model {

// The weights of one part, in their stored dtype. Immutable once loaded. Comes from a PartStore.
class PartWeights;

std::int64_t hidden_size(const PartWeights& part);
std::int64_t column_count(const PartWeights& part);
std::uint64_t weight_bytes(const PartWeights& part);

// out[t] = down(silu(gate rows[t]) * up rows[t]), over the part's columns only, not weighted by the route.
//   rows [n, hidden] F32; out [n, hidden] F32, overwritten. A row's bits depend on that row and the part
//   alone.
void compute_part(const PartWeights& part, runtime::ConstTensorView rows, runtime::TensorView out,
                  runtime::Workers& workers);

}  // namespace consort::model
