// Tokenizer: text to token ids and back, as a model's tokenizer.json says.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/text/utf8.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

struct TokenizerFile;
struct TokenizerSettings;

struct EncodeOptions {
  bool add_special_tokens = true;  // the beginning-of-sentence id and the like, where the model's files ask for them
  // Whether "<｜User｜>" in the text becomes that token. Off for what a user wrote: else text can play another role.
  bool match_added_tokens = true;
};

// Immutable; cheap to copy; many threads may use one.
class Tokenizer {
 public:
  // From the text of a tokenizer.json alone: no end-of-sentence ids, no chat template.
  static runtime::Outcome<Tokenizer> from_json(std::string_view tokenizer_json);
  // From a Hugging Face model directory: tokenizer.json, and where they exist tokenizer_config.json,
  // chat_template.jinja, generation_config.json, config.json.
  static runtime::Outcome<Tokenizer> from_directory(const std::filesystem::path& directory);

  // Fails on text that is not UTF-8, that the vocabulary cannot spell, or that a pattern is given up on.
  runtime::Outcome<std::vector<std::int32_t>> encode(std::string_view text, EncodeOptions options = {}) const;

  // Always UTF-8: bytes that form no character become U+FFFD, as do ids that have no token.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special = true) const;

  // What decode() would make of the id, as bytes; nothing for an id that has no token.
  std::optional<std::string_view> token_bytes(std::int32_t id) const;
  std::optional<std::string_view> token_text(std::int32_t id) const;  // as the file spells it: "Ġworld"
  std::optional<std::int32_t> token_id(std::string_view text) const;  // by the file's spelling
  std::optional<std::int32_t> added_token_id(std::string_view text) const;
  bool is_special(std::int32_t id) const;
  // One more than the largest id that has a token. A model's vocab_size may be larger: its last rows are padding.
  std::int32_t vocab_size() const;

  std::optional<std::int32_t> bos_id() const;
  std::span<const std::int32_t> eos_ids() const;  // generation ends at any of them; empty where no file names one
  bool is_eos(std::int32_t id) const;
  std::string_view chat_template() const;  // Jinja source; empty where there is none

 private:
  struct State;
  static runtime::Outcome<Tokenizer> build(TokenizerFile file, TokenizerSettings settings);
  explicit Tokenizer(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

// Decodes a stream of ids. Never emits half a character: all that it has returned is UTF-8, and together the same text
// that Tokenizer::decode gives for all ids.
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special = true)
      : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}

  // The text that is certain now; often empty, since a character may span several tokens.
  std::string add(std::int32_t id);
  // The end: what is still held back becomes U+FFFD. The decoder may then begin another stream.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  bool skip_special_;
  Utf8Repair repair_;
};

}  // namespace consort::model
