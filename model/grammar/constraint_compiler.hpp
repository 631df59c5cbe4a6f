// Makes the constraints that the Batcher follows: JSON objects, JSON of a schema, calls of tools.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "model/grammar/grammar.hpp"
#include "model/grammar/schema_compiler.hpp"
#include "model/text/tokenizer.hpp"
#include "model/token_constraint.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

// Grammars that are kept with their masks; each takes up to 4 MiB with a vocabulary of 129,280.
inline constexpr std::size_t kMaxKeptGrammars = 16;

// The text of a kToolCalls constraint: which format writes the calls, and what may be called.
struct ToolCallSpec {
  std::string format;  // of the chat
  bool parallel = true;
  std::vector<ToolSchema> tools;
};
std::string tool_call_text(const ToolCallSpec& spec);

// What a constraint's text becomes, or why it cannot be followed; without a vocabulary where only that is asked.
runtime::Status check_constraint(const ConstraintSpec& spec);

// A compiler for models with this vocabulary. Its copies share what they keep; may be called from several threads.
ConstraintCompiler make_constraint_compiler(const Tokenizer& tokenizer);
// The same with the tokenizer of a model's folder, which is read when a constraint first comes: most services need
// none.
ConstraintCompiler make_constraint_compiler(const std::filesystem::path& folder);

}  // namespace consort::model
