#include <algorithm>
#include <array>

#include "model/grammar/schema_merge-inl.hpp"
#include "model/grammar/schema_text-inl.hpp"

namespace consort::model {

namespace json = boost::json;
using runtime::Outcome;

namespace {

bool has_value(const json::array& list, const json::value& value) {
  return std::ranges::any_of(list, [&](const json::value& one) { return one == value; });
}

json::array list_of(const json::value& value) { return value.is_array() ? value.get_array() : json::array{value}; }

json::array common(const json::array& a, const json::array& b) {
  json::array out;
  for (const json::value& value : a) {
    if (has_value(b, value)) out.push_back(value);
  }
  return out;
}

// "integer" is a "number".
json::array common_types(const json::array& a, const json::array& b) {
  json::array out = common(a, b);
  const json::value number("number"), integer("integer");
  const bool both = (has_value(a, number) && has_value(b, integer)) || (has_value(a, integer) && has_value(b, number));
  if (both && !has_value(out, integer) && !has_value(out, number)) out.push_back(integer);
  return out;
}

bool is_closed(const json::object& schema) {
  const json::value* additional = schema.if_contains("additionalProperties");
  return additional != nullptr && !(additional->is_bool() && additional->get_bool());
}

// Whether every property that b names is one of a's own.
bool covers(const json::object& a, const json::object& b) {
  const json::value* own = a.if_contains("properties");
  const json::value* named = b.if_contains("properties");
  if (named == nullptr || !named->is_object()) return true;
  return std::ranges::all_of(named->get_object(), [&](const auto& entry) {
    return own != nullptr && own->is_object() && own->get_object().contains(entry.key());
  });
}

double as_number(const json::value& value) { return value.is_number() ? value.to_number<double>() : 0; }

}  // namespace

bool is_annotation(std::string_view keyword) {
  constexpr std::array<std::string_view, 13> kAnnotations = {
      "title",    "description", "default", "examples", "example",     "$comment", "deprecated",
      "readOnly", "writeOnly",   "$schema", "$id",      "definitions", "$defs"};
  return std::ranges::find(kAnnotations, keyword) != kAnnotations.end();
}

runtime::Error schema_error(const std::string& pointer, const std::string& what) {
  return runtime::failure(runtime::ErrorKind::kInvalid,
                          "the schema's " + (pointer.empty() ? std::string("root") : pointer) + " " + what);
}

Outcome<json::object> merge_schemas(const json::object& a, const json::object& b, const std::string& pointer) {
  json::object out = a;
  if ((is_closed(a) && !covers(a, b)) || (is_closed(b) && !covers(b, a))) {
    return schema_error(pointer, "names properties that additionalProperties beside it closes, which is not supported");
  }
  for (const auto& [key, value] : b) {
    if (is_annotation(key)) continue;
    json::value* mine = out.if_contains(key);
    if (mine == nullptr) {
      out[key] = value;
      continue;
    }
    if (*mine == value) continue;
    if (key == "type") {
      *mine = common_types(list_of(*mine), list_of(value));
    } else if (key == "enum" && mine->is_array() && value.is_array()) {
      *mine = common(mine->get_array(), value.get_array());
    } else if (key == "required" && mine->is_array() && value.is_array()) {
      for (const json::value& name : value.get_array()) {
        if (!has_value(mine->get_array(), name)) mine->get_array().push_back(name);
      }
    } else if (key == "properties" && mine->is_object() && value.is_object()) {
      for (const auto& [name, schema] : value.get_object()) {
        json::value& property = mine->get_object()[name];
        if (property.is_null()) {
          property = schema;
        } else if (property != schema) {
          property = json::object{{"allOf", json::array{property, schema}}};
        }
      }
    } else if (key.starts_with("min") || key == "exclusiveMinimum") {
      if (as_number(value) > as_number(*mine)) *mine = value;
    } else if (key.starts_with("max") || key == "exclusiveMaximum") {
      if (as_number(value) < as_number(*mine)) *mine = value;
    } else {
      return schema_error(pointer_step(pointer, key), "holds together with another " + std::string(key) +
                                                          " of the same value, which is not supported");
    }
  }
  return out;
}

}  // namespace consort::model
