// Which instruction set the kernels run with: the best that this CPU has, or one that a test or a user forces.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/outcome.hpp"

namespace consort::kernels {

// Names of the canonical instruction sets compiled in that this CPU has, best first: "avx512", "avx2", "neon".
std::vector<std::string> available_instruction_sets();

// The one in use. A CPU without fused multiply-add has none and is refused at start.
std::string chosen_instruction_set();

// Forces one of available_instruction_sets() for the whole process; call before any kernel runs elsewhere.
runtime::Status force_instruction_set(std::string_view name);

// kInvalid with a sentence where this CPU cannot be canonical (no FMA).
runtime::Status check_cpu();

}  // namespace consort::kernels
