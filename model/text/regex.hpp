// Regex: a compiled regular expression that cuts text into its matches and what lies between them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "runtime/outcome.hpp"

namespace consort::model {

// Memory for matching, reused from call to call; one per thread that matches.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(RegexScratch&&) noexcept;
  RegexScratch& operator=(RegexScratch&&) noexcept;

 private:
  friend class Regex;
  struct State;
  std::unique_ptr<State> state_;
};

// Immutable once compiled; many threads may use one.
class Regex {
 public:
  enum class Syntax { kOniguruma, kLiteral };
  static runtime::Outcome<Regex> compile(std::string_view pattern, Syntax syntax);

  // Appends the pieces of text in order: every match is a piece, and so is every gap. An empty match cuts nothing.
  // `text` must be well-formed UTF-8, and is all that look-around sees. Gives up with kExhausted where a match needs
  // more than a bounded number of steps.
  runtime::Status split(std::string_view text, std::vector<std::string_view>& pieces, RegexScratch& scratch) const;

 private:
  struct Code;
  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  std::shared_ptr<const Code> code_;
};

}  // namespace consort::model
