#include "model/text/byte_pair_merges.hpp"

#include <algorithm>
#include <bit>

#include "runtime/check.hpp"

namespace consort::model {
namespace {

std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
  return (std::uint64_t{static_cast<std::uint32_t>(left)} << 32) | static_cast<std::uint32_t>(right);
}

// For a heap whose top is the best rank, leftmost first.
bool comes_later(const BytePairMerges::Scratch::Candidate& a, const BytePairMerges::Scratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
}

}  // namespace

BytePairMerges::BytePairMerges(std::span<const MergeRule> rules) {
  const std::size_t slot_count = std::bit_ceil(std::max<std::size_t>(16, rules.size() * 2));
  slots_.resize(slot_count);
  shift_ = 64 - std::countr_zero(slot_count);
  std::int32_t rank = 0;
  for (const MergeRule& rule : rules) {
    CONSORT_CHECK(rule.left >= 0 && rule.right >= 0 && rule.result >= 0, rank);
    const std::uint64_t pair = pair_of(rule.left, rule.right);
    std::size_t i = home(pair);
    while (slots_[i].pair != kEmpty && slots_[i].pair != pair) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = {pair, rank++, rule.result};
  }
}

// Fibonacci hashing: the high bits of the product mix both ids.
std::size_t BytePairMerges::home(std::uint64_t pair) const {
  return static_cast<std::size_t>((pair * 0x9E3779B97F4A7C15ULL) >> shift_);
}

const BytePairMerges::Slot* BytePairMerges::find(std::int32_t left, std::int32_t right) const {
  if (slots_.empty()) return nullptr;
  const std::uint64_t pair = pair_of(left, right);
  for (std::size_t i = home(pair);; i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i].pair == pair) return &slots_[i];
    if (slots_[i].pair == kEmpty) return nullptr;
  }
}

// Notes the rule, if any, for the symbol at `at` and its right neighbour.
void BytePairMerges::push(Scratch& scratch, std::int32_t at) const {
  const auto& left = scratch.symbols[static_cast<std::size_t>(at)];
  if (left.next < 0) return;
  const auto& right = scratch.symbols[static_cast<std::size_t>(left.next)];
  const Slot* slot = find(left.id, right.id);
  if (slot == nullptr) return;
  scratch.heap.push_back({slot->rank, at, left.id, right.id});
  std::push_heap(scratch.heap.begin(), scratch.heap.end(), comes_later);
}

void BytePairMerges::apply(std::vector<std::int32_t>& ids, Scratch& scratch) const {
  constexpr std::int32_t kMergedAway = -1;
  auto& symbols = scratch.symbols;
  const auto count = static_cast<std::int32_t>(ids.size());
  symbols.clear();
  scratch.heap.clear();
  for (std::int32_t i = 0; i < count; ++i) {
    symbols.push_back({ids[static_cast<std::size_t>(i)], i - 1, i + 1 < count ? i + 1 : -1});
  }
  for (std::int32_t i = 0; i + 1 < count; ++i) push(scratch, i);
  while (!scratch.heap.empty()) {
    const auto best = scratch.heap.front();
    std::pop_heap(scratch.heap.begin(), scratch.heap.end(), comes_later);
    scratch.heap.pop_back();
    auto& left = symbols[static_cast<std::size_t>(best.at)];
    // A candidate whose symbols have since been merged is stale.
    if (left.id != best.left || left.next < 0) continue;
    auto& right = symbols[static_cast<std::size_t>(left.next)];
    if (right.id != best.right) continue;
    left.id = find(best.left, best.right)->result;
    left.next = right.next;
    right.id = kMergedAway;
    if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].previous = best.at;
    if (left.previous >= 0) push(scratch, left.previous);
    push(scratch, best.at);
  }
  ids.clear();
  for (std::int32_t i = count > 0 ? 0 : -1; i >= 0; i = symbols[static_cast<std::size_t>(i)].next) {
    ids.push_back(symbols[static_cast<std::size_t>(i)].id);
  }
}

}  // namespace consort::model
