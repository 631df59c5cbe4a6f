// A TOML text spelled in ASCII, which is all that toml++ 3.3 reads without undefined behaviour.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "runtime/outcome.hpp"

namespace consort::cluster {

// The same text, line for line, with the same values. In quotes a character beyond ASCII becomes its escape (texts in
// single quotes, which have no escapes, change to double ones); in comments it becomes '?'; a byte order mark goes.
// Fails, as "<path>:<line>: ...", where such a character stands outside of both, and in quotes on bytes that are not
// UTF-8.
//
// toml++ 3.3 leaves a switch through TOML_UNREACHABLE when it asks whether one of many letters (U+00A1 to U+0499 among
// them) is white space.
runtime::Outcome<std::string> ascii_toml(std::string_view text, const std::string& path);

}  // namespace consort::cluster
