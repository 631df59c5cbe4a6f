#include "model/grammar/masks.hpp"

#include <algorithm>

namespace consort::model {

TokenMaskPtr GrammarMasks::kept(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  kept_.splice(kept_.begin(), kept_, found->second);
  return found->second->mask;
}

TokenMaskPtr GrammarMasks::make(const std::string& key, std::span<const GrammarThread> threads) {
  if (TokenMaskPtr mask = kept(key)) return mask;
  auto made = std::make_shared<const TokenMask>(find_mask(threads));
  const std::lock_guard lock(mutex_);
  if (by_key_.contains(key)) return made;  // another request was as quick
  if (kept_.size() >= kMaxKept) {
    by_key_.erase(kept_.back().key);
    kept_.pop_back();
  }
  kept_.push_front({key, made});
  by_key_.emplace(kept_.front().key, kept_.begin());
  return made;
}

TokenMask GrammarMasks::find_mask(std::span<const GrammarThread> threads) const {
  const GrammarVocabulary& words = *vocabulary_;
  TokenMask mask(words.token_count());
  // Threads do not know of each other: what one of them allows is allowed. Inside of a string nearly all tokens may
  // come; those are known, and only the others are tried.
  std::vector<GrammarThread> others;
  for (const GrammarThread& thread : threads) {
    if (const auto place = machine_.plain_place(thread)) {
      allow_plain(*place, mask);
      walk(words.other_than_plain(), {&thread, 1}, mask);
    } else {
      others.push_back(thread);
    }
  }
  if (!others.empty()) walk(words.all(), others, mask);
  for (const GrammarThread& thread : threads) {
    if (thread.top.place != GrammarFrame::Place::kProgram) continue;
    for (const Grammar::Edge& edge : grammar_.program[thread.top.shape]) {
      if (edge.kind == Grammar::Edge::Kind::kToken && edge.what < words.token_count()) mask.allow(edge.what);
      if (edge.kind != Grammar::Edge::Kind::kEnd) continue;
      for (const std::int32_t id : words.tokenizer().eos_ids()) {
        if (id >= 0 && static_cast<std::size_t>(id) < words.token_count()) mask.allow(static_cast<std::size_t>(id));
      }
    }
  }
  return mask;
}

void GrammarMasks::allow_plain(const GrammarMachine::PlainPlace& place, TokenMask& mask) const {
  const GrammarVocabulary& words = *vocabulary_;
  if (place.pattern != nullptr) {  // lengths are part of the pattern
    std::vector<std::uint32_t> at_depth(words.longest_token_bytes() + 1, place.state);
    const auto nodes = words.plain_trie().nodes();
    for (std::size_t i = 0; i < nodes.size();) {
      const TokenTrie::Node& node = nodes[i];
      const std::uint32_t state = place.pattern->next(at_depth[node.depth - 1u], node.byte);
      at_depth[node.depth] = state;
      if (state == ByteDfa::kDead) {
        i = node.end;
        continue;
      }
      for (const std::int32_t id : words.plain_trie().tokens_of(node)) mask.allow(static_cast<std::size_t>(id));
      ++i;
    }
  } else if (place.room >= words.longest_token_bytes()) {
    TokenMask plain(words.token_count(), {words.plain_words().begin(), words.plain_words().end()});
    if (mask == TokenMask(words.token_count())) {
      mask = std::move(plain);
    } else {
      for (const auto& token : words.plain()) mask.allow(static_cast<std::size_t>(token.id));
    }
  } else {
    for (const auto& token : words.plain()) {
      if (token.characters <= place.room) mask.allow(static_cast<std::size_t>(token.id));
    }
  }
}

void GrammarMasks::walk(const TokenTrie& trie, std::span<const GrammarThread> threads, TokenMask& mask) const {
  GrammarArena arena;
  std::vector<std::vector<GrammarThread>> at_depth(vocabulary_->longest_token_bytes() + 1);
  at_depth[0].assign(threads.begin(), threads.end());
  const auto nodes = trie.nodes();
  for (std::size_t i = 0; i < nodes.size();) {
    const TokenTrie::Node& node = nodes[i];
    auto& here = at_depth[node.depth];
    machine_.step(at_depth[node.depth - 1u], node.byte, here, arena);
    if (here.empty()) {
      i = node.end;
      continue;
    }
    for (const std::int32_t id : trie.tokens_of(node)) mask.allow(static_cast<std::size_t>(id));
    ++i;
  }
}

std::vector<GrammarThread> GrammarMasks::after(std::span<const GrammarThread> threads, std::uint32_t token,
                                               GrammarArena& arena) const {
  std::vector<GrammarThread> now;
  machine_.step_token(threads, token, now);
  if (!now.empty()) return now;
  const auto id = static_cast<std::int32_t>(token);
  const Tokenizer& tokenizer = vocabulary_->tokenizer();
  const auto text = tokenizer.token_text(id);
  if (!text || tokenizer.added_token_id(*text) == id || tokenizer.is_special(id)) return {};
  const std::string_view bytes = *tokenizer.token_bytes(id);
  if (bytes.empty() || bytes.size() > GrammarVocabulary::kMaxTokenBytes) return {};
  now.assign(threads.begin(), threads.end());
  std::vector<GrammarThread> next;
  for (const char byte : bytes) {
    machine_.step(now, static_cast<std::uint8_t>(byte), next, arena);
    now.swap(next);
    if (now.empty()) break;
  }
  return now;
}

}  // namespace consort::model
