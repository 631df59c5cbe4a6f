#include "kernels/instruction_set.hpp"

#include <atomic>

#include "kernels/cpu/dispatch.hpp"
#include "kernels/cpu/targets.hpp"

#include <hwy/targets.h>

namespace consort::kernels {
namespace {

using cpu::InstructionSet;

struct Entry {
  InstructionSet set;
  std::string_view name;
};
constexpr Entry kBestFirst[] = {
    {InstructionSet::kAvx512, "avx512"}, {InstructionSet::kAvx2, "avx2"}, {InstructionSet::kNeon, "neon"}};

bool has(InstructionSet set) {
#if HWY_ARCH_X86
  const auto targets = hwy::SupportedTargets();  // asks for AVX2 with FMA, BMI2 and F16C as one
  if (set == InstructionSet::kAvx512) return (targets & HWY_AVX3) != 0;
  if (set == InstructionSet::kAvx2) return (targets & HWY_AVX2) != 0;
  return false;
#else
  return set == InstructionSet::kNeon;  // every AArch64 CPU
#endif
}

InstructionSet best() {
  for (const auto& entry : kBestFirst) {
    if (has(entry.set)) return entry.set;
  }
  return InstructionSet::kNone;
}

std::atomic<InstructionSet>& in_use() {
  static std::atomic<InstructionSet> set{best()};
  return set;
}

}  // namespace

namespace cpu {
InstructionSet chosen() { return in_use().load(std::memory_order_relaxed); }
}  // namespace cpu

std::vector<std::string> available_instruction_sets() {
  std::vector<std::string> names;
  for (const auto& entry : kBestFirst) {
    if (has(entry.set)) names.emplace_back(entry.name);
  }
  return names;
}

std::string chosen_instruction_set() {
  for (const auto& entry : kBestFirst) {
    if (entry.set == cpu::chosen()) return std::string(entry.name);
  }
  return "none";
}

runtime::Status force_instruction_set(std::string_view name) {
  std::string available;
  for (const auto& entry : kBestFirst) {
    if (!has(entry.set)) continue;
    if (entry.name == name) {
      in_use().store(entry.set, std::memory_order_relaxed);
      return runtime::done();
    }
    available += (available.empty() ? "" : ", ") + std::string(entry.name);
  }
  return runtime::failure(runtime::ErrorKind::kInvalid,
                          "this CPU has no instruction set '" + std::string(name) +
                              "'; it has: " + (available.empty() ? "none that is canonical" : available));
}

runtime::Status check_cpu() {
  if (best() != InstructionSet::kNone) return runtime::done();
  return runtime::failure(runtime::ErrorKind::kInvalid,
                          "this CPU lacks AVX2 with FMA, so its sums would differ in bits from the other nodes'; "
                          "use an x86-64 CPU of 2013 (Haswell) or later, or an AArch64 one");
}

}  // namespace consort::kernels
