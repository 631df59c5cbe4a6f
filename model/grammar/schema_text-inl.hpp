// JSON texts and pointers as the grammar writes them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include <boost/json/fwd.hpp>

namespace consort::model {

// A string in quotes; only what must be escaped is.
std::string json_quoted(std::string_view text);
// A value without blanks; numbers in their shortest form.
std::string json_compact(const boost::json::value& value);
// One more step of a JSON pointer: "/anyOf", "/a~1b".
std::string pointer_step(std::string_view pointer, std::string_view key);

}  // namespace consort::model
