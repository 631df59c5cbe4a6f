// Picks the function of the instruction set in use from those compiled by Highway's foreach_target.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "runtime/check.hpp"

namespace consort::kernels::cpu {

enum class InstructionSet : std::uint8_t { kNone = 0, kAvx512, kAvx2, kNeon };

// The one in use; found on the first call, unless force_instruction_set() came before.
InstructionSet chosen();

// A null pointer stands for an instruction set that was not compiled.
template <class Function>
Function* choose(Function* avx512, Function* avx2, Function* neon) {
  Function* function = nullptr;
  switch (chosen()) {
    case InstructionSet::kAvx512:
      function = avx512;
      break;
    case InstructionSet::kAvx2:
      function = avx2;
      break;
    case InstructionSet::kNeon:
      function = neon;
      break;
    case InstructionSet::kNone:
      break;
  }
  CONSORT_CHECK(function != nullptr, static_cast<int>(chosen()));
  return function;
}

}  // namespace consort::kernels::cpu

// The function `name` of the instruction set in use; for the HWY_ONCE part of a file that includes foreach_target.h.
// `Type` is its function type.
#define CONSORT_CHOOSE(Type, name) \
  (::consort::kernels::cpu::choose<Type>(HWY_CHOOSE_AVX3(name), HWY_CHOOSE_AVX2(name), HWY_CHOOSE_NEON(name)))
