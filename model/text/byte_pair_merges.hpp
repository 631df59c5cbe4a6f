// BytePairMerges: the merge rules of a byte-pair encoding, applied to the symbols of one piece of text.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace consort::model {

// left and right, side by side, become result. Position in the list of rules is priority: the first rule goes first.
struct MergeRule {
  std::int32_t left = 0;
  std::int32_t right = 0;
  std::int32_t result = 0;
};

class BytePairMerges {
 public:
  BytePairMerges() = default;
  // A pair that is named twice keeps its last rule, as in Hugging Face tokenizers.
  explicit BytePairMerges(std::span<const MergeRule> rules);

  // Memory that apply() reuses from piece to piece.
  struct Scratch {
    struct Symbol {
      std::int32_t id;
      std::int32_t previous, next;  // -1 at the ends
    };
    struct Candidate {
      std::int32_t rank, at, left, right;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  // Merges until no rule applies: always the pair with the best rank, among equals the leftmost. At most 2^31 - 1
  // symbols; O(n log n).
  void apply(std::vector<std::int32_t>& ids, Scratch& scratch) const;

 private:
  struct Slot {
    std::uint64_t pair = kEmpty;
    std::int32_t rank = 0;
    std::int32_t result = 0;
  };
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};  // ids are not negative, so no pair looks like this

  const Slot* find(std::int32_t left, std::int32_t right) const;
  std::size_t home(std::uint64_t pair) const;
  void push(Scratch& scratch, std::int32_t at) const;

  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
  int shift_ = 64;
};

}  // namespace consort::model
