// TokenMask: which tokens of a vocabulary may come next, one bit each. Immutable once shared.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace consort::model {

class TokenMask {
 public:
  // Of the largest vocabulary that a mask is made for: bounds what a peer may make us allocate (128 KiB).
  static constexpr std::size_t kMaxTokens = std::size_t{1} << 20;

  // Nothing is allowed yet.
  explicit TokenMask(std::size_t token_count) : token_count_(token_count), words_(words_for(token_count), 0) {}
  // Bit t % 32 of words[t / 32] is token t; bits beyond the last token are not read.
  TokenMask(std::size_t token_count, std::vector<std::uint32_t> words)
      : token_count_(token_count), words_(std::move(words)) {
    words_.resize(words_for(token_count), 0);
  }
  static constexpr std::size_t words_for(std::size_t token_count) { return (token_count + 31) / 32; }

  std::size_t token_count() const { return token_count_; }
  // Tokens beyond the mask are not allowed: a vocabulary's padding is never wanted.
  bool allows(std::size_t token) const {
    return token < token_count_ && ((words_[token / 32] >> (token % 32)) & 1U) != 0;
  }
  void allow(std::size_t token) { words_[token / 32] |= std::uint32_t{1} << (token % 32); }
  std::span<const std::uint32_t> words() const { return words_; }
  bool operator==(const TokenMask&) const = default;

 private:
  std::size_t token_count_ = 0;
  std::vector<std::uint32_t> words_;
};
using TokenMaskPtr = std::shared_ptr<const TokenMask>;

}  // namespace consort::model
