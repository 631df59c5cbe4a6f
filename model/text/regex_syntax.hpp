// Rewrites a regular expression of tokenizer.json, which is Oniguruma's Ruby syntax, into PCRE2's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "runtime/outcome.hpp"

namespace consort::model {

// The two agree on most of what tokenizers use. What they read differently is rewritten (\s and \S, where PCRE2 counts
// U+180E as a space; \v; \uHHHH) or refused by name: \w and \b, scripts, nested classes and &&, backreferences, flags
// other than i, verbs, {n}+ and {,n}. For PCRE2 with UTF, UCP and MULTILINE (in Ruby, ^ and $ always mean lines).
runtime::Outcome<std::string> pcre2_pattern(std::string_view oniguruma);

}  // namespace consort::model
