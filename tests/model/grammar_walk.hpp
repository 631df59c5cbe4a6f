// Walks of grammars in tests: whether a text is one of a grammar's, and random texts by its masks.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "grammar_vocabulary.hpp"
#include "model/grammar/constraint_compiler.hpp"
#include "model/grammar/machine.hpp"
#include "model/grammar/schema_compiler.hpp"
#include "support/test.hpp"

namespace consort::tests {

inline model::Grammar grammar_of(const std::string& schema) {
  auto grammar = model::compile_json_schema(schema);
  REQUIRE_MESSAGE(grammar.ok(), grammar.error().text);
  return std::move(*grammar);
}

// Byte by byte, as far as the text goes.
inline bool accepts(const model::Grammar& grammar, const std::string& text) {
  const model::GrammarMachine machine(grammar);
  model::GrammarArena arena;
  std::vector<model::GrammarThread> now{model::GrammarMachine::at_state(grammar.start)}, next;
  for (const char byte : text) {
    machine.step(now, static_cast<std::uint8_t>(byte), next, arena);
    now.swap(next);
  }
  return std::ranges::any_of(now, [&](const auto& thread) { return machine.may_end(thread); });
}

struct Walk {
  std::string text;
  std::vector<std::int32_t> ids;
  bool ended = false;
};

// A random text by the masks alone. After `patience` tokens those that close things are taken where they may come.
inline Walk walk(model::TokenConstraint& constraint, const model::Tokenizer& tokenizer, std::mt19937_64& rng,
                 std::size_t patience = 60, std::size_t most = 4000) {
  Walk out;
  while (out.ids.size() < most) {
    const auto mask = constraint.mask();
    REQUIRE(mask != nullptr);
    std::vector<std::int32_t> allowed;
    for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
      if (mask->allows(static_cast<std::size_t>(id))) allowed.push_back(id);
    }
    REQUIRE_MESSAGE(!allowed.empty(), out.text);
    std::int32_t chosen = allowed[rng() % allowed.size()];
    if (out.ids.size() > patience) {
      const auto may = [&](char c) {
        return mask->allows(static_cast<std::size_t>(32 + static_cast<unsigned char>(c)));
      };
      const bool in_string = may('%') && may('&');
      for (const char closer : in_string ? std::string_view("\"") : std::string_view("}]\"0")) {
        if (!may(closer)) continue;
        chosen = 32 + closer;
        break;
      }
      if (mask->allows(kEndId)) chosen = kEndId;
    }
    if (auto status = constraint.advance(static_cast<std::uint32_t>(chosen)); !status.ok()) FAIL(status.error().text);
    if (tokenizer.is_eos(chosen)) {
      out.ended = true;
      return out;
    }
    out.ids.push_back(chosen);
    out.text += *tokenizer.token_bytes(chosen);
  }
  return out;
}

inline std::unique_ptr<model::TokenConstraint> constraint_of(const model::ConstraintCompiler& compile,
                                                             const model::ConstraintSpec& spec) {
  auto made = compile(spec);
  REQUIRE_MESSAGE(made.ok(), made.error().text);
  return std::move(*made);
}

}  // namespace consort::tests
