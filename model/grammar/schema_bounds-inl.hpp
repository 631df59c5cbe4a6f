// The bounds that a schema sets to a number.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json.hpp>
#include <optional>
#include <string>

#include "model/grammar/grammar.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

// Nothing where no number lies between the bounds.
runtime::Outcome<std::optional<NumberShape>> number_of_bounds(const boost::json::object& schema, bool is_integer,
                                                              const std::string& pointer);

}  // namespace consort::model
