// TokenizerFile: what a tokenizer.json says, checked and made plain. What it asks for and we do not know is refused by
// name. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/text/byte_pair_merges.hpp"
#include "model/text/pre_tokenizer.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

struct AddedToken {
  std::int32_t id = 0;
  std::string text;
  bool special = false;     // left out of decoded text where special tokens are skipped
  bool normalized = false;  // found in what the tokens without this flag have left over
};

struct TokenizerFile {
  std::vector<std::string> vocabulary;  // by id, in the byte alphabet; empty where the model has no such id
  std::vector<MergeRule> merges;        // by priority
  bool ignore_merges = false;           // a piece that is a token as it stands is not merged
  std::vector<AddedToken> added_tokens;
  std::vector<SplitRule> splits;     // the pre-tokenizer's stages before ByteLevel
  std::vector<std::int32_t> prefix;  // ids that the post-processor puts before and after an encoded text
  std::vector<std::int32_t> suffix;
};

// Hugging Face tokenizer.json: model BPE over bytes, pre-tokenizers Split (Isolated), Digits and ByteLevel, decoder
// ByteLevel. Errors name the field.
runtime::Outcome<TokenizerFile> parse_tokenizer_json(std::string_view json);

}  // namespace consort::model
