// Refuses JSON that says something twice: Boost.JSON keeps the last of two equal keys without a word.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "runtime/outcome.hpp"

namespace consort::model {

inline constexpr std::size_t kMaxJsonDepth =
    16;  // config.json and safetensors headers nest three deep; deeper is an attack

// Fails if `text` is not one JSON value in UTF-8, nests deeper than max_depth, or has a key twice in one object.
// `where` names the file.
runtime::Status check_json(std::string_view text, std::string_view where, std::size_t max_depth = kMaxJsonDepth);

// The same JSON as Python's json.dumps writes it with ensure_ascii=False: a blank behind each comma and colon. Strings
// and numbers stay as they are; blanks between the tokens of the text do not.
runtime::Outcome<std::string> spaced_json(std::string_view text);

}  // namespace consort::model
