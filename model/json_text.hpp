// Refuses JSON that says something twice: Boost.JSON keeps the last of two equal keys without a word.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "runtime/outcome.hpp"

namespace consort::model {

// Fails if `text` is not one JSON value, nests deeper than 16, or has a key twice in one object. `where`
// names the file.
runtime::Status check_json(std::string_view text, std::string_view where);

}  // namespace consort::model
