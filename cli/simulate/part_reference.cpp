#include "cli/simulate/part_reference.hpp"

#include <bit>
#include <vector>

#include "model/expert_part.hpp"
#include "runtime/check.hpp"
#include "runtime/workers.hpp"

namespace consort::cli {

std::uint64_t row_print(std::span<const float> row) {
  std::uint64_t print = row.size();
  for (const float value : row) {
    print = (print ^ std::bit_cast<std::uint32_t>(value)) * 0x9FB21C651E98DF25u;
    print ^= print >> 29;
  }
  return print;
}

std::uint64_t PartReference::output_print(const model::PartKey& part, std::span<const float> row) {
  const std::uint64_t key = row_print(row) ^ (std::hash<model::PartKey>{}(part)*0xD6E8FEB86659FD93u);
  {
    const std::lock_guard lock(mutex_);
    if (const auto known = prints_.find(key); known != prints_.end()) return known->second;
  }
  auto weights = parts_.find(part);
  if (weights == nullptr) {
    const runtime::Status loaded = parts_.load(*checkpoint_, std::span(&part, 1));
    CONSORT_CHECK(loaded.ok(), describe(part), loaded.error().text);
    weights = parts_.find(part);
  }
  std::vector<float> out(row.size());
  const auto hidden = static_cast<std::int64_t>(row.size());
  runtime::InlineWorkers workers;
  model::compute_part(*weights, {reinterpret_cast<const std::byte*>(row.data()), runtime::Dtype::kF32, {1, hidden}},
                      {reinterpret_cast<std::byte*>(out.data()), runtime::Dtype::kF32, {1, hidden}}, workers);
  const std::uint64_t print = row_print(out);
  const std::lock_guard lock(mutex_);
  prints_.emplace(key, print);
  return print;
}

}  // namespace consort::cli
