// One JSON Schema object out of several that hold at once: allOf, and what stands beside a reference or a choice.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json.hpp>
#include <string>

#include "runtime/outcome.hpp"

namespace consort::model {

// Keywords that say nothing about values.
bool is_annotation(std::string_view keyword);

// Both at once, or why that cannot be written as one object. `pointer` is that of `b`, for the words.
runtime::Outcome<boost::json::object> merge_schemas(const boost::json::object& a, const boost::json::object& b,
                                                    const std::string& pointer);

// A refusal that names where in the schema.
runtime::Error schema_error(const std::string& pointer, const std::string& what);

}  // namespace consort::model
