// TokenTrie: the bytes of a vocabulary's ordinary tokens as one tree, so that a mask is found by walking it once.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "model/text/tokenizer.hpp"

namespace consort::model {

// Tokens in the order of their bytes, as a tree written down depth first.
class TokenTrie {
 public:
  struct Node {
    std::uint32_t end = 0;  // of its subtree
    std::uint32_t first_token = 0, token_count = 0;
    std::uint8_t byte = 0;
    std::uint8_t depth = 0;  // from 1
  };
  struct Token {
    std::string_view bytes;
    std::int32_t id = 0;
  };
  TokenTrie() = default;
  explicit TokenTrie(std::vector<Token> tokens);

  std::span<const Node> nodes() const { return nodes_; }
  std::span<const std::int32_t> tokens_of(const Node& node) const {
    return std::span(tokens_).subspan(node.first_token, node.token_count);
  }

 private:
  std::vector<Node> nodes_;
  std::vector<std::int32_t> tokens_;
};

// What constraints need to know of a vocabulary. Immutable.
class GrammarVocabulary {
 public:
  // Longer tokens are never allowed: the longest of DeepSeek's vocabularies have 128 bytes.
  static constexpr std::size_t kMaxTokenBytes = 255;

  explicit GrammarVocabulary(Tokenizer tokenizer);

  const Tokenizer& tokenizer() const { return tokenizer_; }
  std::size_t token_count() const { return token_count_; }
  std::size_t longest_token_bytes() const { return longest_; }
  // Every ordinary token. Added tokens (markers of the chat format) are no text, whatever they spell.
  const TokenTrie& all() const { return all_; }
  // Whole characters without a quote, a backslash or a control character: what the inside of any JSON string may be.
  struct PlainToken {
    std::int32_t id = 0;
    std::uint32_t characters = 0;
  };
  std::span<const PlainToken> plain() const { return plain_; }
  std::span<const std::uint32_t> plain_words() const { return plain_words_; }  // the same as a mask's words
  const TokenTrie& plain_trie() const { return plain_trie_; }
  const TokenTrie& other_than_plain() const { return other_; }
  std::optional<std::int32_t> marker(std::string_view text) const { return tokenizer_.added_token_id(text); }

 private:
  Tokenizer tokenizer_;
  std::size_t token_count_ = 0;
  std::size_t longest_ = 0;
  TokenTrie all_, plain_trie_, other_;
  std::vector<PlainToken> plain_;
  std::vector<std::uint32_t> plain_words_;
};

}  // namespace consort::model
