// TokenizerSettings: what a model directory says about its tokenizer beside tokenizer.json.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/outcome.hpp"

namespace consort::model {

struct TokenizerSettings {
  std::optional<bool> add_bos_token;  // nothing where the file leaves it to tokenizer.json's post-processor
  bool add_eos_token = false;
  std::string bos_token;  // texts; empty where there is none
  std::string eos_token;
  std::string chat_template;                 // Jinja source, empty where there is none
  std::optional<std::int32_t> bos_token_id;  // from generation_config.json or config.json
  std::vector<std::int32_t> eos_token_ids;   // generation ends at any of them
};

// Reads tokenizer_config.json. An absent add_bos_token means true for the Llama tokenizer classes, as in transformers.
runtime::Status read_tokenizer_config(std::string_view json, TokenizerSettings& settings);

// Reads bos_token_id and eos_token_id (a number or a list) from generation_config.json or config.json, named by `file`.
// What an earlier file has said stays.
runtime::Status read_special_ids(std::string_view json, std::string_view file, TokenizerSettings& settings);

}  // namespace consort::model
