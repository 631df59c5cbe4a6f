#include "model/grammar/token_trie.hpp"

#include <algorithm>

#include "model/text/utf8.hpp"
#include "model/token_mask.hpp"

namespace consort::model {
namespace {

bool is_plain(std::string_view bytes) {
  for (const char c : bytes) {
    if (static_cast<unsigned char>(c) < 0x20 || c == '"' || c == '\\') return false;
  }
  return first_invalid_utf8(bytes) == std::string_view::npos;
}

std::uint32_t characters(std::string_view bytes) {
  return static_cast<std::uint32_t>(
      std::ranges::count_if(bytes, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace

TokenTrie::TokenTrie(std::vector<Token> tokens) {
  std::ranges::sort(tokens, [](const Token& a, const Token& b) {
    const int order = a.bytes.compare(b.bytes);
    return order != 0 ? order < 0 : a.id < b.id;
  });
  std::vector<std::size_t> open;  // the nodes above the next one
  std::string_view before;
  for (const Token& token : tokens) {
    std::size_t shared = 0;
    while (shared < std::min(before.size(), token.bytes.size()) && before[shared] == token.bytes[shared]) ++shared;
    while (open.size() > shared) {
      nodes_[open.back()].end = static_cast<std::uint32_t>(nodes_.size());
      open.pop_back();
    }
    for (std::size_t i = shared; i < token.bytes.size(); ++i) {
      open.push_back(nodes_.size());
      Node node;
      node.byte = static_cast<std::uint8_t>(token.bytes[i]);
      node.depth = static_cast<std::uint8_t>(i + 1);
      nodes_.push_back(node);
    }
    Node& last = nodes_[open.back()];
    if (last.token_count == 0) last.first_token = static_cast<std::uint32_t>(tokens_.size());
    ++last.token_count;
    tokens_.push_back(token.id);
    before = token.bytes;
  }
  for (const std::size_t node : open) nodes_[node].end = static_cast<std::uint32_t>(nodes_.size());
}

GrammarVocabulary::GrammarVocabulary(Tokenizer tokenizer)
    : tokenizer_(std::move(tokenizer)),
      token_count_(static_cast<std::size_t>(std::max(0, tokenizer_.vocab_size()))),
      plain_words_(TokenMask::words_for(token_count_), 0) {
  std::vector<TokenTrie::Token> all, plain, other;
  for (std::int32_t id = 0; id < tokenizer_.vocab_size(); ++id) {
    const auto bytes = tokenizer_.token_bytes(id);
    if (!bytes || bytes->empty() || bytes->size() > kMaxTokenBytes) continue;
    if (tokenizer_.added_token_id(*tokenizer_.token_text(id)) == id || tokenizer_.is_special(id)) continue;
    longest_ = std::max(longest_, bytes->size());
    all.push_back({*bytes, id});
    if (is_plain(*bytes)) {
      plain.push_back({*bytes, id});
      plain_.push_back({id, characters(*bytes)});
      plain_words_[static_cast<std::size_t>(id) / 32] |= std::uint32_t{1} << (id % 32);
    } else {
      other.push_back({*bytes, id});
    }
  }
  all_ = TokenTrie(std::move(all));
  plain_trie_ = TokenTrie(std::move(plain));
  other_ = TokenTrie(std::move(other));
}

}  // namespace consort::model
