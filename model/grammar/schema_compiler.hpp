// JSON Schema to Grammar. What cannot be enforced is refused, named by its JSON pointer; nothing is passed over.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/grammar/grammar.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

inline constexpr std::size_t kMaxSchemaBytes = std::size_t{256} << 10;
inline constexpr std::size_t kMaxSchemaDepth = 96;  // of its JSON

// Values of a bounded kind: numbers have up to 15 digits (with bounds no exponent), properties stand in the schema's
// order with additional ones behind (of which minProperties counts one: their names may be equal), strings of an enum
// or const are written one way, and nothing nests deeper than kMaxNesting. All that can be written is JSON and valid;
// between tokens of JSON stand a blank, or a line feed with an indentation, or nothing.
//   Enforced: type, enum, const, properties, required, additionalProperties, minProperties, maxProperties, items,
//   prefixItems, minItems, maxItems, minLength, maxLength, pattern (see pattern.hpp), format (see pattern_of_format),
//   minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf of whole numbers, anyOf, oneOf where no value can
//   meet two, allOf, $ref within the schema with recursion.
runtime::Outcome<Grammar> compile_json_schema(std::string_view schema);
// Any object.
runtime::Outcome<Grammar> compile_json_object();

// How a model writes calls of tools: what stands around each name and its arguments. Markers by their ids.
struct ToolCallLayout {
  struct Piece {
    std::int32_t token = -1;  // a marker, where >= 0
    std::string text;         // else
  };
  std::vector<Piece> begin, before_name, before_arguments, after_arguments, between, end;
};
struct ToolSchema {
  std::string name;
  std::string parameters;  // JSON Schema of an object; empty: any object
};
// One call or, where allowed, several. `where` names a tool's parameters in the words of a refusal.
runtime::Outcome<Grammar> compile_tool_calls(const ToolCallLayout& layout, const std::vector<ToolSchema>& tools,
                                             bool parallel);

}  // namespace consort::model
