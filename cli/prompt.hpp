// Prompt: what --prompt, --chat or --ids come to in token ids.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "model/text/tokenizer.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

struct Prompt {
  std::vector<std::int32_t> ids;
  std::string shown_first;  // what the chat format has begun the answer with: "<think>\n" for R1
};

// The directory's tokenizer; nothing where there is no tokenizer.json, which --ids can do without.
runtime::Outcome<std::optional<model::Tokenizer>> tokenizer_of(const std::string& model_dir);

runtime::Outcome<Prompt> make_prompt(const GenerateOptions& options, const std::optional<model::Tokenizer>& tokenizer);

// Ids that end the generation: none with --ignore-eos.
std::vector<std::int32_t> stop_ids_of(const GenerateOptions& options, const std::optional<model::Tokenizer>& tokenizer);

}  // namespace consort::cli
