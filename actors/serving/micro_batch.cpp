#include "actors/serving/micro_batch.hpp"

#include <algorithm>
#include <cstdlib>

namespace consort::actors {

namespace {

// The place nearest to `wanted` (rows from the step's start) where a cut is allowed: between two sequences, or inside
// one that keeps min_rows on both sides.
std::uint32_t nearest_cut(std::span<const StepSequence> sequences, std::uint32_t wanted, std::uint32_t min_rows) {
  std::uint32_t best = 0, begin = 0;
  const auto consider = [&](std::uint32_t cut) {
    const auto distance = [&](std::uint32_t at) { return at > wanted ? at - wanted : wanted - at; };
    if (distance(cut) < distance(best)) best = cut;
  };
  for (const StepSequence& sequence : sequences) {
    const auto rows = static_cast<std::uint32_t>(sequence.tokens.size());
    consider(begin);
    if (rows >= 2 * min_rows) consider(std::clamp(wanted, begin + min_rows, begin + rows - min_rows));
    begin += rows;
  }
  return best;
}

}  // namespace

std::vector<MicroBatchPlan> cut_step(std::span<const StepSequence> sequences, int count, std::uint32_t min_rows) {
  std::uint32_t total = 0;
  for (const StepSequence& sequence : sequences) total += static_cast<std::uint32_t>(sequence.tokens.size());
  std::vector<std::uint32_t> cuts;
  for (int i = 1; i < count; ++i) {
    const auto wanted = static_cast<std::uint32_t>((std::uint64_t{total} * static_cast<unsigned>(i) + 1) /
                                                   static_cast<unsigned>(count));
    const std::uint32_t cut = nearest_cut(sequences, wanted, std::max(min_rows, 1u));
    if (cut > 0 && cut < total && (cuts.empty() || cut > cuts.back())) cuts.push_back(cut);
  }
  std::vector<MicroBatchPlan> plans(1);
  std::uint32_t row = 0;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const auto rows = static_cast<std::uint32_t>(sequences[s].tokens.size());
    for (std::uint32_t first = 0; first < rows;) {
      if (plans.size() <= cuts.size() && row == cuts[plans.size() - 1]) plans.push_back({{}, first > 0});
      const std::uint32_t until = plans.size() <= cuts.size() ? cuts[plans.size() - 1] - row : rows;
      const std::uint32_t taken = std::min(rows - first, until);
      plans.back().slices.push_back({s, first, taken});
      first += taken;
      row += taken;
    }
  }
  return plans;
}

}  // namespace consort::actors
