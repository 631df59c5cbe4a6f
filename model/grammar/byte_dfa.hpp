// ByteDfa: a regular language over bytes, as a table. ByteTrie: a finite set of texts.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/outcome.hpp"

namespace consort::model {

// States from which nothing is accepted are one, 0; the others are all alive.
class ByteDfa {
 public:
  static constexpr std::uint32_t kDead = 0;
  static constexpr std::uint32_t kStart = 1;
  // 4 bytes a state and class of bytes: 2 MiB where every byte is a class of its own.
  static constexpr std::size_t kMaxStates = 2048;

  // From states that were found in order, state 1 first; rows of 256. Fails where nothing is accepted.
  static runtime::Outcome<ByteDfa> from_table(std::vector<std::array<std::uint32_t, 256>> next,
                                              std::vector<bool> accepts);

  std::uint32_t next(std::uint32_t state, std::uint8_t byte) const {
    return next_[state * class_count_ + classes_[byte]];
  }
  bool accepts(std::uint32_t state) const { return accepts_[state]; }
  std::size_t state_count() const { return accepts_.size(); }
  // The texts of it that have min to max characters. Fails where there are none, or too many states.
  runtime::Outcome<ByteDfa> with_length(std::uint32_t min, std::uint32_t max) const;

 private:
  std::array<std::uint8_t, 256> classes_{};
  std::uint32_t class_count_ = 1;
  std::vector<std::uint32_t> next_;
  std::vector<bool> accepts_;
};

class ByteTrie {
 public:
  static constexpr std::uint32_t kRoot = 0;
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  ByteTrie() : nodes_(1) {}
  explicit ByteTrie(std::vector<std::string> texts);

  std::uint32_t next(std::uint32_t node, std::uint8_t byte) const;  // kNone where there is none
  bool ends(std::uint32_t node) const { return nodes_[node].ends; }
  bool is_leaf(std::uint32_t node) const { return nodes_[node].edge_count == 0; }
  std::size_t node_count() const { return nodes_.size(); }

 private:
  struct Node {
    std::uint32_t first_edge = 0;
    std::uint16_t edge_count = 0;
    bool ends = false;
  };
  struct Edge {
    std::uint8_t byte = 0;
    std::uint32_t node = 0;
  };
  void build(std::uint32_t node, std::span<const std::string> texts, std::size_t depth);
  std::vector<Node> nodes_;
  std::vector<Edge> edges_;
};

}  // namespace consort::model
