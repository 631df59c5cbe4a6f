// GrammarMasks: the tokens that a grammar's states allow, each found once and kept.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "model/grammar/machine.hpp"
#include "model/grammar/token_trie.hpp"
#include "model/token_mask.hpp"

namespace consort::model {

// One compiled grammar with one vocabulary; used by many requests and threads.
class GrammarMasks {
 public:
  static constexpr std::size_t kMaxKept = 256;  // 4 MiB of masks with a vocabulary of 129,280

  GrammarMasks(Grammar grammar, std::shared_ptr<const GrammarVocabulary> vocabulary)
      : grammar_(std::move(grammar)), machine_(grammar_), vocabulary_(std::move(vocabulary)) {}
  GrammarMasks(const GrammarMasks&) = delete;
  GrammarMasks& operator=(const GrammarMasks&) = delete;

  const GrammarMachine& machine() const { return machine_; }
  const GrammarVocabulary& vocabulary() const { return *vocabulary_; }

  std::string key(std::span<const GrammarThread> threads) const {
    return machine_.key(threads, vocabulary_->longest_token_bytes());
  }
  TokenMaskPtr kept(const std::string& key) const;  // null where it was not made yet, or was let go
  TokenMaskPtr make(const std::string& key, std::span<const GrammarThread> threads);
  // The threads after a token; none where it may not come. `arena` holds their stacks.
  std::vector<GrammarThread> after(std::span<const GrammarThread> threads, std::uint32_t token,
                                   GrammarArena& arena) const;

 private:
  TokenMask find_mask(std::span<const GrammarThread> threads) const;
  void allow_plain(const GrammarMachine::PlainPlace& place, TokenMask& mask) const;
  void walk(const TokenTrie& trie, std::span<const GrammarThread> threads, TokenMask& mask) const;

  const Grammar grammar_;
  const GrammarMachine machine_;
  const std::shared_ptr<const GrammarVocabulary> vocabulary_;
  struct Kept {
    std::string key;
    TokenMaskPtr mask;
  };
  mutable std::mutex mutex_;      // of what follows
  mutable std::list<Kept> kept_;  // the one used last in front
  mutable std::unordered_map<std::string_view, std::list<Kept>::iterator> by_key_;
};

}  // namespace consort::model
