// What is known of a grammar once all its nodes are there: what can end, and which choices exclude each other.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "model/grammar/grammar.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

struct ExclusiveChoice {
  std::vector<GrammarNode> nodes;
  std::string pointer;  // of the oneOf
};

// A node's shapes become its own and those of all that it includes; one that includes itself gains nothing by it.
void take_included_shapes(Grammar& grammar, const std::vector<std::vector<GrammarNode>>& includes);
// How deep each shape and node must nest at least. What can never end is taken out of where it is not needed.
void measure_heights(Grammar& grammar);
// Whether no value meets two nodes of a choice: told by types, literals, or a required property with other literals.
runtime::Status check_exclusive(const Grammar& grammar, const std::vector<ExclusiveChoice>& choices);

}  // namespace consort::model
