#include "model/grammar/schema_compiler.hpp"

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "model/grammar/pattern.hpp"
#include "model/grammar/schema_bounds-inl.hpp"
#include "model/grammar/schema_heights-inl.hpp"
#include "model/grammar/schema_merge-inl.hpp"
#include "model/grammar/schema_text-inl.hpp"
#include "model/json_text.hpp"

namespace consort::model {

namespace json = boost::json;
using runtime::Outcome;
using runtime::Status;

namespace {

constexpr int kMaxReferences = 32;     // from one to the next
constexpr int kMaxCompileDepth = 200;  // sub-schemas in sub-schemas, those of references included

enum Type : std::uint8_t {
  kNull = 1,
  kBoolean = 2,
  kNumber = 4,
  kInteger = 8,
  kString = 16,
  kArray = 32,
  kObject = 64,
  kAllTypes = kNull | kBoolean | kNumber | kString | kArray | kObject,
};
constexpr std::array<std::pair<std::string_view, Type>, 7> kTypeNames = {std::pair{std::string_view("null"), kNull},
                                                                         {"boolean", kBoolean},
                                                                         {"number", kNumber},
                                                                         {"integer", kInteger},
                                                                         {"string", kString},
                                                                         {"array", kArray},
                                                                         {"object", kObject}};

constexpr std::array<std::string_view, 29> kKeywords = {
    "type",          "enum",          "const",    "properties",       "required",         "additionalProperties",
    "minProperties", "maxProperties", "items",    "prefixItems",      "minItems",         "maxItems",
    "minLength",     "maxLength",     "pattern",  "format",           "minimum",          "maximum",
    "multipleOf",    "anyOf",         "oneOf",    "exclusiveMinimum", "exclusiveMaximum", "allOf",
    "$ref",          "uniqueItems",   "nullable", "minContains",      "maxContains"};

bool fits_type(const json::value& value, std::uint8_t types) {
  switch (value.kind()) {
    case json::kind::null:
      return (types & kNull) != 0;
    case json::kind::bool_:
      return (types & kBoolean) != 0;
    case json::kind::int64:
    case json::kind::uint64:
      return (types & (kNumber | kInteger)) != 0;
    case json::kind::double_: {
      const double number = value.get_double();
      return (types & kNumber) != 0 ||
             ((types & kInteger) != 0 &&
              number == static_cast<double>(static_cast<std::int64_t>(std::clamp(number, -1e15, 1e15))));
    }
    case json::kind::string:
      return (types & kString) != 0;
    case json::kind::array:
      return (types & kArray) != 0;
    case json::kind::object:
      return (types & kObject) != 0;
  }
  return false;
}

class SchemaCompiler {
 public:
  explicit SchemaCompiler(Grammar& grammar) : grammar_(grammar) {}

  // A node for the whole schema.
  Outcome<GrammarNode> compile_root(const json::value& root) {
    root_ = &root;
    references_.clear();
    return node_of_reference("#", "");
  }
  GrammarNode any_node();
  GrammarNode any_object();
  // Once, at the end.
  Status finish();

 private:
  GrammarNode new_node() {
    grammar_.nodes.emplace_back();
    includes_.emplace_back();
    return static_cast<GrammarNode>(grammar_.nodes.size() - 1);
  }
  template <class T>
  void add_shape(GrammarNode into, ShapeKind kind, std::vector<T>& list, T shape) {
    list.push_back(std::move(shape));
    grammar_.nodes[into].shapes.push_back(static_cast<ShapeIndex>(grammar_.shapes.size()));
    grammar_.shapes.push_back({kind, static_cast<std::uint32_t>(list.size() - 1), Grammar::kNeverEnds});
  }
  void add_literals(GrammarNode into, std::vector<std::string> texts) {
    std::ranges::sort(texts);
    LiteralsShape shape{ByteTrie(texts), texts};
    add_shape(into, ShapeKind::kLiterals, grammar_.literals, std::move(shape));
  }

  Outcome<const json::value*> target_of(const std::string& reference, const std::string& pointer) const;
  Outcome<GrammarNode> node_of_reference(const std::string& reference, const std::string& pointer);
  Outcome<GrammarNode> child(const json::value& schema, const std::string& pointer);
  Status compile(GrammarNode into, const json::value& schema, const std::string& pointer);
  Status compile_object(GrammarNode into, const json::object& schema, const std::string& pointer);
  Status compile_choice(GrammarNode into, const json::object& schema, const std::string& keyword,
                        const std::string& pointer);
  Status compile_types(GrammarNode into, const json::object& schema, const std::string& pointer);
  Status check_keywords(const json::object& schema, const std::string& pointer) const;
  Outcome<json::object> resolved(const json::value& schema, const std::string& pointer, int depth) const;
  Outcome<std::uint8_t> types_of(const json::object& schema, const std::string& pointer) const;
  Outcome<std::uint32_t> count_of(const json::object& schema, std::string_view keyword, std::uint32_t otherwise,
                                  const std::string& pointer) const;
  Status add_enum(GrammarNode into, const json::object& schema, std::uint8_t types, const std::string& pointer);
  Status add_string(GrammarNode into, const json::object& schema, const std::string& pointer);
  Status add_array(GrammarNode into, const json::object& schema, const std::string& pointer);
  Status add_object(GrammarNode into, const json::object& schema, const std::string& pointer);

  Grammar& grammar_;
  const json::value* root_ = nullptr;
  std::vector<std::vector<GrammarNode>> includes_;  // nodes whose shapes are a node's too
  std::map<std::string, GrammarNode> references_;
  std::vector<ExclusiveChoice> exclusive_;
  GrammarNode any_ = kNoNode;
  std::size_t pattern_states_ = 0;
  int depth_ = 0;
};

bool has_only(const json::object& schema, std::string_view keyword) {
  return schema.contains(keyword) && std::ranges::all_of(schema, [&](const auto& entry) {
           return entry.key() == keyword || is_annotation(entry.key());
         });
}
json::object without(json::object schema, std::string_view keyword) {
  schema.erase(keyword);
  return schema;
}

// --- references and what holds at once -------------------------------------------------------------------------------

Outcome<const json::value*> SchemaCompiler::target_of(const std::string& reference, const std::string& pointer) const {
  const std::string where = pointer_step(pointer, "$ref");
  if (!reference.starts_with('#')) return schema_error(where, "leads outside of the schema, which is not supported");
  json::error_code code;
  const json::value* target = reference == "#" ? root_ : root_->find_pointer(reference.substr(1), code);
  if (target == nullptr || code) return schema_error(where, "leads to " + reference + ", which is not there");
  return target;
}

Outcome<GrammarNode> SchemaCompiler::node_of_reference(const std::string& reference, const std::string& pointer) {
  if (const auto found = references_.find(reference); found != references_.end()) return found->second;
  CONSORT_TRY(const json::value* target, target_of(reference, pointer));
  const GrammarNode node = new_node();
  references_.emplace(reference, node);
  CONSORT_RETURN_IF_ERROR(compile(node, *target, reference.substr(1)));
  return node;
}

// The schema as one object without $ref and allOf.
Outcome<json::object> SchemaCompiler::resolved(const json::value& schema, const std::string& pointer, int depth) const {
  if (depth > kMaxReferences) return schema_error(pointer, "refers to itself, or is nested too deep");
  if (schema.is_bool()) {
    return schema.get_bool() ? json::object{} : json::object{{"enum", json::array{}}};
  }
  if (!schema.is_object()) return schema_error(pointer, "must be an object or a boolean");
  const json::object& own = schema.get_object();
  CONSORT_RETURN_IF_ERROR(check_keywords(own, pointer));
  json::object out = without(without(own, "$ref"), "allOf");
  if (const json::value* reference = own.if_contains("$ref")) {
    if (!reference->is_string()) return schema_error(pointer_step(pointer, "$ref"), "must be a text");
    const std::string name(reference->get_string());
    CONSORT_TRY(const json::value* target, target_of(name, pointer));
    CONSORT_TRY(const json::object other, resolved(*target, name.substr(1), depth + 1));
    CONSORT_TRY(out, merge_schemas(other, out, pointer));
  }
  if (const json::value* all = own.if_contains("allOf")) {
    const std::string where = pointer_step(pointer, "allOf");
    if (!all->is_array() || all->get_array().empty()) return schema_error(where, "must be a list of schemas");
    for (std::size_t i = 0; i < all->get_array().size(); ++i) {
      const std::string part = pointer_step(where, std::to_string(i));
      CONSORT_TRY(const json::object other, resolved(all->get_array()[i], part, depth + 1));
      CONSORT_TRY(out, merge_schemas(out, other, part));
    }
  }
  return out;
}

Status SchemaCompiler::check_keywords(const json::object& schema, const std::string& pointer) const {
  for (const auto& [key, value] : schema) {
    if (is_annotation(key)) {
      const bool moves = key == "$id" && !pointer.empty();
      if (moves) return schema_error(pointer_step(pointer, key), "is not supported below the root");
      continue;
    }
    if (std::ranges::find(kKeywords, std::string_view(key)) == kKeywords.end())
      return schema_error(pointer_step(pointer, key), "is not supported");
    // Known, and only where it says nothing.
    const bool says_nothing = !(key == "uniqueItems" || key == "nullable") || (value.is_bool() && !value.get_bool());
    if (!says_nothing || key.ends_with("Contains")) return schema_error(pointer_step(pointer, key), "is not supported");
  }
  return runtime::done();
}

// --- nodes -----------------------------------------------------------------------------------------------------------

GrammarNode SchemaCompiler::any_node() {
  if (any_ != kNoNode) return any_;
  any_ = new_node();
  add_literals(any_, {"null", "true", "false"});
  add_shape(any_, ShapeKind::kNumber, grammar_.numbers, NumberShape{});
  add_shape(any_, ShapeKind::kString, grammar_.strings, StringShape{});
  ArrayShape array;
  array.items = any_;
  add_shape(any_, ShapeKind::kArray, grammar_.arrays, std::move(array));
  ObjectShape object;
  object.additional = any_;
  add_shape(any_, ShapeKind::kObject, grammar_.objects, std::move(object));
  return any_;
}

GrammarNode SchemaCompiler::any_object() {
  const GrammarNode any = any_node();
  const GrammarNode node = new_node();
  ObjectShape object;
  object.additional = any;
  add_shape(node, ShapeKind::kObject, grammar_.objects, std::move(object));
  return node;
}

Outcome<GrammarNode> SchemaCompiler::child(const json::value& schema, const std::string& pointer) {
  if (schema.is_bool() && schema.get_bool()) return any_node();
  if (schema.is_object()) {
    const json::object& object = schema.get_object();
    CONSORT_RETURN_IF_ERROR(check_keywords(object, pointer));
    if (std::ranges::all_of(object, [](const auto& entry) { return is_annotation(entry.key()); })) return any_node();
    if (has_only(object, "$ref") && object.at("$ref").is_string())
      return node_of_reference(std::string(object.at("$ref").get_string()), pointer);
  }
  const GrammarNode node = new_node();
  CONSORT_RETURN_IF_ERROR(compile(node, schema, pointer));
  return node;
}

Status SchemaCompiler::compile(GrammarNode into, const json::value& schema, const std::string& pointer) {
  if (grammar_.nodes.size() > kMaxGrammarNodes || depth_ > kMaxCompileDepth) {
    return schema_error(
        pointer, "makes the schema larger than " + std::to_string(kMaxGrammarNodes) + " parts, references written out");
  }
  if (schema.is_bool()) {
    if (schema.get_bool()) includes_[into].push_back(any_node());
    return runtime::done();  // false: no value
  }
  if (!schema.is_object()) return schema_error(pointer, "must be an object or a boolean");
  ++depth_;
  auto status = compile_object(into, schema.get_object(), pointer);
  --depth_;
  return status;
}

Status SchemaCompiler::compile_object(GrammarNode into, const json::object& schema, const std::string& pointer) {
  CONSORT_RETURN_IF_ERROR(check_keywords(schema, pointer));
  const auto include = [&](const json::value& part, const std::string& where) -> Status {
    CONSORT_TRY(const GrammarNode node, child(part, where));
    includes_[into].push_back(node);
    return runtime::done();
  };
  if (has_only(schema, "$ref") && schema.at("$ref").is_string()) return include(schema, pointer);
  const json::value* all = schema.if_contains("allOf");
  if (all != nullptr && has_only(schema, "allOf") && all->is_array() && all->get_array().size() == 1)
    return include(all->get_array()[0], pointer_step(pointer_step(pointer, "allOf"), "0"));
  if (all != nullptr || schema.contains("$ref")) {
    CONSORT_TRY(const json::object whole, resolved(schema, pointer, 0));
    return compile(into, whole, pointer);
  }
  if (schema.contains("anyOf") && schema.contains("oneOf"))
    return schema_error(pointer_step(pointer, "oneOf"), "beside anyOf is not supported");
  for (const char* keyword : {"anyOf", "oneOf"}) {
    if (schema.contains(keyword)) return compile_choice(into, schema, keyword, pointer);
  }
  return compile_types(into, schema, pointer);
}

Status SchemaCompiler::compile_choice(GrammarNode into, const json::object& schema, const std::string& keyword,
                                      const std::string& pointer) {
  const std::string where = pointer_step(pointer, keyword);
  const json::value& list = schema.at(keyword);
  if (!list.is_array() || list.get_array().empty()) return schema_error(where, "must be a list of schemas");
  json::object rest = without(schema, keyword);
  const bool is_alone = has_only(schema, keyword);
  ExclusiveChoice branches{{}, where};
  for (std::size_t i = 0; i < list.get_array().size(); ++i) {
    const json::value& branch = list.get_array()[i];
    const std::string place = pointer_step(where, std::to_string(i));
    if (is_alone) {
      CONSORT_TRY(const GrammarNode node, child(branch, place));
      branches.nodes.push_back(node);
    } else {
      CONSORT_TRY(const json::object own, resolved(branch, place, 0));
      CONSORT_TRY(const json::object both, merge_schemas(rest, own, place));
      CONSORT_TRY(const GrammarNode node, child(both, place));
      branches.nodes.push_back(node);
    }
    includes_[into].push_back(branches.nodes.back());
  }
  if (keyword == "oneOf") exclusive_.push_back(std::move(branches));
  return runtime::done();
}

Outcome<std::uint8_t> SchemaCompiler::types_of(const json::object& schema, const std::string& pointer) const {
  const json::value* given = schema.if_contains("type");
  if (given == nullptr) return static_cast<std::uint8_t>(kAllTypes);
  const std::string where = pointer_step(pointer, "type");
  std::uint8_t types = 0;
  const auto add = [&](const json::value& name) {
    if (!name.is_string()) return false;
    for (const auto& [text, type] : kTypeNames) {
      if (text != std::string_view(name.get_string())) continue;
      types = static_cast<std::uint8_t>(types | type);
      return true;
    }
    return false;
  };
  const bool known = given->is_array() ? std::ranges::all_of(given->get_array(), add) : add(*given);
  if (!known)
    return schema_error(where,
                        "must be one of null, boolean, number, integer, string, array, object, or a list of them");
  return types;
}

Outcome<std::uint32_t> SchemaCompiler::count_of(const json::object& schema, std::string_view keyword,
                                                std::uint32_t otherwise, const std::string& pointer) const {
  const json::value* given = schema.if_contains(keyword);
  if (given == nullptr) return otherwise;
  if (!given->is_int64() || given->get_int64() < 0 || given->get_int64() > kMaxCount) {
    return schema_error(pointer_step(pointer, keyword),
                        "must be a whole number from 0 to " + std::to_string(kMaxCount));
  }
  return static_cast<std::uint32_t>(given->get_int64());
}

Status SchemaCompiler::compile_types(GrammarNode into, const json::object& schema, const std::string& pointer) {
  CONSORT_TRY(const std::uint8_t types, types_of(schema, pointer));
  if (schema.contains("enum") || schema.contains("const")) return add_enum(into, schema, types, pointer);
  std::vector<std::string> literals;
  if ((types & kNull) != 0) literals.emplace_back("null");
  if ((types & kBoolean) != 0) literals.insert(literals.end(), {"false", "true"});
  if (!literals.empty()) add_literals(into, std::move(literals));
  if ((types & (kNumber | kInteger)) != 0) {
    CONSORT_TRY(const auto number, number_of_bounds(schema, (types & kNumber) == 0, pointer));
    if (number) add_shape(into, ShapeKind::kNumber, grammar_.numbers, *number);
  }
  if ((types & kString) != 0) CONSORT_RETURN_IF_ERROR(add_string(into, schema, pointer));
  if ((types & kArray) != 0) CONSORT_RETURN_IF_ERROR(add_array(into, schema, pointer));
  if ((types & kObject) != 0) CONSORT_RETURN_IF_ERROR(add_object(into, schema, pointer));
  return runtime::done();
}

Status SchemaCompiler::add_enum(GrammarNode into, const json::object& schema, std::uint8_t types,
                                const std::string& pointer) {
  for (const auto& entry : schema) {
    const std::string_view key = entry.key();
    if (key != "type" && key != "enum" && key != "const" && !is_annotation(key))
      return schema_error(pointer_step(pointer, key), "beside enum or const is not supported");
  }
  json::array values;
  if (const json::value* list = schema.if_contains("enum")) {
    if (!list->is_array()) return schema_error(pointer_step(pointer, "enum"), "must be a list of values");
    values = list->get_array();
  }
  if (const json::value* only = schema.if_contains("const")) {
    const bool is_one = !schema.contains("enum") || std::ranges::find(values, *only) != values.end();
    values = is_one ? json::array{*only} : json::array{};
  }
  std::vector<std::string> texts;
  std::size_t bytes = 0;
  for (const json::value& value : values) {
    if (!fits_type(value, types)) continue;
    texts.push_back(json_compact(value));
    bytes += texts.back().size();
  }
  if (bytes > kMaxEnumBytes)
    return schema_error(pointer_step(pointer, "enum"), "has more than " + std::to_string(kMaxEnumBytes) + " bytes");
  if (!texts.empty()) add_literals(into, std::move(texts));
  return runtime::done();
}

Status SchemaCompiler::add_string(GrammarNode into, const json::object& schema, const std::string& pointer) {
  StringShape shape;
  CONSORT_TRY(shape.min_length, count_of(schema, "minLength", 0, pointer));
  CONSORT_TRY(shape.max_length, count_of(schema, "maxLength", kNoLimit, pointer));
  if (shape.min_length > shape.max_length) return runtime::done();
  std::string pattern;
  std::string where = pointer_step(pointer, "pattern");
  if (const json::value* given = schema.if_contains("pattern")) {
    if (!given->is_string()) return schema_error(where, "must be a text");
    pattern = std::string_view(given->get_string());
  }
  if (const json::value* given = schema.if_contains("format")) {
    const std::string format_at = pointer_step(pointer, "format");
    if (!given->is_string()) return schema_error(format_at, "must be a text");
    if (schema.contains("pattern")) return schema_error(format_at, "beside pattern is not supported");
    pattern = pattern_of_format(std::string_view(given->get_string()));
    where = format_at;
    if (pattern.empty())
      return schema_error(format_at, "\"" + std::string(given->get_string()) + "\" is not supported");
  }
  if (!pattern.empty()) {
    const auto bad = [&](const runtime::Error& error) { return schema_error(where, error.text); };
    auto dfa = compile_pattern(pattern);
    if (!dfa.ok()) return bad(dfa.error());
    if (shape.min_length > 0 || shape.max_length != kNoLimit) {
      dfa = dfa->with_length(shape.min_length, shape.max_length);
      if (!dfa.ok()) return bad(dfa.error());
    }
    pattern_states_ += dfa->state_count();
    if (pattern_states_ > kMaxRegexStates) {
      return schema_error(where,
                          "makes the patterns need more than " + std::to_string(kMaxRegexStates) + " states together");
    }
    shape = {0, kNoLimit, static_cast<std::uint32_t>(grammar_.patterns.size())};
    grammar_.patterns.push_back(std::move(*dfa));
  }
  add_shape(into, ShapeKind::kString, grammar_.strings, shape);
  return runtime::done();
}

Status SchemaCompiler::add_array(GrammarNode into, const json::object& schema, const std::string& pointer) {
  ArrayShape shape;
  CONSORT_TRY(shape.min, count_of(schema, "minItems", 0, pointer));
  CONSORT_TRY(shape.max, count_of(schema, "maxItems", kNoLimit, pointer));
  if (const json::value* prefix = schema.if_contains("prefixItems")) {
    const std::string where = pointer_step(pointer, "prefixItems");
    if (!prefix->is_array()) return schema_error(where, "must be a list of schemas");
    for (std::size_t i = 0; i < prefix->get_array().size(); ++i) {
      CONSORT_TRY(const GrammarNode node, child(prefix->get_array()[i], pointer_step(where, std::to_string(i))));
      shape.prefix.push_back(node);
    }
  }
  const json::value* items = schema.if_contains("items");
  if (items == nullptr) {
    shape.items = any_node();
  } else if (items->is_array()) {
    return schema_error(pointer_step(pointer, "items"), "as a list is not supported; write prefixItems");
  } else if (!items->is_bool() || items->get_bool()) {
    CONSORT_TRY(shape.items, child(*items, pointer_step(pointer, "items")));
  }
  add_shape(into, ShapeKind::kArray, grammar_.arrays, std::move(shape));
  return runtime::done();
}

Status SchemaCompiler::add_object(GrammarNode into, const json::object& schema, const std::string& pointer) {
  ObjectShape shape;
  CONSORT_TRY(shape.min, count_of(schema, "minProperties", 0, pointer));
  CONSORT_TRY(shape.max, count_of(schema, "maxProperties", kNoLimit, pointer));
  const json::value* additional = schema.if_contains("additionalProperties");
  if (additional == nullptr) {
    shape.additional = any_node();
  } else if (!additional->is_bool() || additional->get_bool()) {
    CONSORT_TRY(shape.additional, child(*additional, pointer_step(pointer, "additionalProperties")));
  }
  std::set<std::string, std::less<>> required;
  if (const json::value* given = schema.if_contains("required")) {
    const bool are_texts = given->is_array() && std::ranges::all_of(given->get_array(), [](const json::value& name) {
                             return name.is_string();
                           });
    if (!are_texts) return schema_error(pointer_step(pointer, "required"), "must be a list of names");
    for (const json::value& name : given->get_array()) required.emplace(name.get_string());
  }
  const auto add = [&](std::string name, GrammarNode value, bool is_required) {
    std::string literal = json_quoted(name).substr(1);
    shape.properties.push_back({std::move(name), std::move(literal), value, is_required});
  };
  const std::string where = pointer_step(pointer, "properties");
  if (const json::value* given = schema.if_contains("properties")) {
    if (!given->is_object()) return schema_error(where, "must be an object of schemas");
    for (const auto& [name, property] : given->get_object()) {
      CONSORT_TRY(const GrammarNode node, child(property, pointer_step(where, name)));
      add(std::string(name), node, required.erase(std::string(name)) > 0);
    }
  }
  // Required and not described: as additional ones are.
  for (const std::string& name : required) {
    if (shape.additional == kNoNode) return runtime::done();  // no object can meet it
    add(name, shape.additional, true);
  }
  if (shape.properties.size() > kMaxProperties)
    return schema_error(where, "has more than " + std::to_string(kMaxProperties) + " properties");
  // Additional ones may repeat a name: only one of them surely counts.
  if (shape.additional != kNoNode && shape.min > shape.properties.size() + 1) {
    return schema_error(pointer_step(pointer, "minProperties"),
                        "is not supported above the count of named properties and one more");
  }
  std::vector<std::string> names;
  for (const auto& property : shape.properties) names.push_back(property.name);
  shape.names = ByteTrie(std::move(names));
  add_shape(into, ShapeKind::kObject, grammar_.objects, std::move(shape));
  return runtime::done();
}

Status SchemaCompiler::finish() {
  take_included_shapes(grammar_, includes_);
  measure_heights(grammar_);
  return check_exclusive(grammar_, exclusive_);
}

Outcome<json::value> parse(std::string_view text, std::string_view what) {
  if (text.size() > kMaxSchemaBytes) {
    return runtime::failure(runtime::ErrorKind::kInvalid,
                            std::string(what) + " has more than " + std::to_string(kMaxSchemaBytes) + " bytes");
  }
  CONSORT_RETURN_IF_ERROR(check_json(text, what, kMaxSchemaDepth));
  json::parse_options options;
  options.max_depth = kMaxSchemaDepth;
  json::error_code code;
  json::value value = json::parse(text, code, {}, options);
  if (code) return runtime::failure(runtime::ErrorKind::kInvalid, std::string(what) + ": " + code.message());
  return value;
}

Status check_ends(const Grammar& grammar, GrammarNode node, std::string_view what) {
  if (grammar.nodes[node].height <= kMaxNesting) return runtime::done();
  return runtime::failure(
      runtime::ErrorKind::kInvalid,
      "no value meets " + std::string(what) + ", or it must nest deeper than " + std::to_string(kMaxNesting));
}

using Edge = Grammar::Edge;

// The value, after a thought maybe behind one or two line feeds, and the end.
void write_value_program(Grammar& grammar, GrammarNode value) {
  enum State : std::uint32_t { kTwoFeeds, kOneFeed, kNoFeed, kWhole };
  const Edge its_value{Edge::Kind::kValue, value, kWhole};
  grammar.program = {{its_value, {Edge::Kind::kByte, '\n', kOneFeed}},
                     {its_value, {Edge::Kind::kByte, '\n', kNoFeed}},
                     {its_value},
                     {{Edge::Kind::kEnd, 0, 0}}};
  grammar.start = kNoFeed;
  grammar.start_after_thought = kTwoFeeds;
}

}  // namespace

std::uint32_t ObjectShape::required_after(std::size_t first) const {
  std::uint32_t count = 0;
  for (std::size_t i = first; i < properties.size(); ++i) count += properties[i].required ? 1 : 0;
  return count;
}

Outcome<Grammar> compile_json_object() {
  Grammar grammar;
  SchemaCompiler compiler(grammar);
  const GrammarNode node = compiler.any_object();
  CONSORT_RETURN_IF_ERROR(compiler.finish());
  write_value_program(grammar, node);
  return grammar;
}

Outcome<Grammar> compile_json_schema(std::string_view schema) {
  CONSORT_TRY(const json::value root, parse(schema, "the schema"));
  Grammar grammar;
  SchemaCompiler compiler(grammar);
  CONSORT_TRY(const GrammarNode node, compiler.compile_root(root));
  CONSORT_RETURN_IF_ERROR(compiler.finish());
  CONSORT_RETURN_IF_ERROR(check_ends(grammar, node, "the schema"));
  write_value_program(grammar, node);
  return grammar;
}

Outcome<Grammar> compile_tool_calls(const ToolCallLayout& layout, const std::vector<ToolSchema>& tools, bool parallel) {
  Grammar grammar;
  SchemaCompiler compiler(grammar);
  std::vector<GrammarNode> arguments;
  std::vector<json::value> roots(tools.size());  // pointers into them are held until the end
  for (std::size_t i = 0; i < tools.size(); ++i) {
    const auto of_tool = [&](runtime::Error error) {
      error.text = "tool " + tools[i].name + ": " + error.text;
      return error;
    };
    if (tools[i].parameters.empty()) {
      arguments.push_back(compiler.any_object());
      continue;
    }
    auto root = parse(tools[i].parameters, "its parameters");
    if (!root.ok()) return of_tool(std::move(root).error());
    roots[i] = std::move(*root);
    auto node = compiler.compile_root(roots[i]);
    if (!node.ok()) return of_tool(std::move(node).error());
    arguments.push_back(*node);
  }
  CONSORT_RETURN_IF_ERROR(compiler.finish());
  for (std::size_t i = 0; i < tools.size(); ++i) {
    CONSORT_RETURN_IF_ERROR(check_ends(grammar, arguments[i], "the parameters of tool " + tools[i].name));
    // Arguments are an object, whatever else the schema would let them be.
    Grammar::Node objects;
    for (const ShapeIndex index : grammar.nodes[arguments[i]].shapes) {
      const Grammar::Shape& shape = grammar.shapes[index];
      if (shape.kind == ShapeKind::kObject) objects.shapes.push_back(index);
      if (shape.kind == ShapeKind::kObject) objects.height = std::min(objects.height, shape.height);
    }
    if (objects.shapes.empty()) {
      return runtime::failure(runtime::ErrorKind::kInvalid,
                              "tool " + tools[i].name + ": its parameters must be of type object");
    }
    arguments[i] = static_cast<GrammarNode>(grammar.nodes.size());
    grammar.nodes.push_back(std::move(objects));
  }
  auto& program = grammar.program;
  const auto state = [&] {
    program.emplace_back();
    return static_cast<std::uint32_t>(program.size() - 1);
  };
  const auto write = [&](std::uint32_t from, const std::vector<ToolCallLayout::Piece>& pieces) {
    for (const auto& piece : pieces) {
      if (piece.token >= 0) {
        const std::uint32_t next = state();
        program[from].push_back({Edge::Kind::kToken, static_cast<std::uint32_t>(piece.token), next});
        from = next;
      }
      for (const char c : piece.text) {
        const std::uint32_t next = state();
        program[from].push_back({Edge::Kind::kByte, static_cast<std::uint8_t>(c), next});
        from = next;
      }
    }
    return from;
  };
  const std::uint32_t two_feeds = state(), one_feed = state(), none = state();
  program[two_feeds].push_back({Edge::Kind::kByte, '\n', one_feed});
  program[one_feed].push_back({Edge::Kind::kByte, '\n', none});
  const std::uint32_t before_name = write(write(none, layout.begin), layout.before_name);
  for (const std::uint32_t feeds : {two_feeds, one_feed}) {
    for (const Edge& edge : std::vector<Edge>(program[none])) program[feeds].push_back(edge);
  }
  const std::uint32_t after_call = state();
  for (std::size_t i = 0; i < tools.size(); ++i) {
    const std::uint32_t before = write(write(before_name, {{-1, tools[i].name}}), layout.before_arguments);
    const std::uint32_t behind = state();
    program[before].push_back({Edge::Kind::kValue, arguments[i], behind});
    // The last piece leads to one state for all tools.
    const std::uint32_t last = write(behind, layout.after_arguments);
    program[last].push_back({Edge::Kind::kByte, kNoNode, after_call});
  }
  const std::uint32_t end = write(after_call, layout.end);
  program[end].push_back({Edge::Kind::kEnd, 0, 0});
  if (parallel) {
    const std::uint32_t again = write(write(after_call, layout.between), layout.before_name);
    program[again].push_back({Edge::Kind::kByte, kNoNode, before_name});
  }
  // Edges for nothing become those of where they lead.
  const auto leads_on = [](const Edge& edge) { return edge.kind == Edge::Kind::kByte && edge.what == kNoNode; };
  for (auto& edges : program) {
    for (std::size_t i = 0; i < edges.size(); ++i) {
      if (!leads_on(edges[i])) continue;
      const auto target = program[edges[i].next];
      edges.erase(edges.begin() + static_cast<std::ptrdiff_t>(i));
      edges.insert(edges.end(), target.begin(), target.end());
      --i;
    }
  }
  grammar.start = none;
  grammar.start_after_thought = two_feeds;
  return grammar;
}

}  // namespace consort::model
