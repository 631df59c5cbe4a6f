// A second opinion on JSON Schema: checks parsed values by the words of the specification, and makes random schemas and
// values that meet them. Shares nothing with the grammar.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <cstdint>
#include <random>
#include <regex>
#include <string>

namespace consort::tests {

namespace json = boost::json;

inline std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

// One wchar_t for each character, so that patterns count characters.
inline std::wstring wide(std::string_view text) {
  std::wstring out;
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i++]);
    const int more = lead < 0x80 ? 0 : lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
    auto point = static_cast<wchar_t>(more == 0 ? lead : lead & (0x3F >> more));
    for (int k = 0; k < more; ++k)
      point = static_cast<wchar_t>(point << 6 | (static_cast<unsigned char>(text[i++]) & 0x3F));
    out += point;
  }
  return out;
}

inline bool equal_values(const json::value& a, const json::value& b) {
  if (a.is_number() && b.is_number()) return a.to_number<double>() == b.to_number<double>();
  return a == b;
}

class SchemaChecker {
 public:
  explicit SchemaChecker(const json::value& root) : root_(root) {}

  bool meets(const json::value& value) const { return meets(value, root_); }
  bool meets(const json::value& value, const json::value& schema) const {
    if (schema.is_bool()) return schema.as_bool();
    const json::object& s = schema.as_object();
    const auto get = [&](std::string_view key) { return s.if_contains(key); };
    if (const auto* ref = get("$ref")) {
      const std::string at(ref->as_string());
      json::error_code code;
      const json::value* target = at == "#" ? &root_ : root_.find_pointer(at.substr(1), code);
      if (target == nullptr || !meets(value, *target)) return false;
    }
    if (const auto* type = get("type"); type != nullptr && !has_type(value, *type)) return false;
    if (const auto* only = get("const"); only != nullptr && !equal_values(value, *only)) return false;
    if (const auto* list = get("enum")) {
      const auto same = [&](const json::value& one) { return equal_values(one, value); };
      if (std::ranges::none_of(list->as_array(), same)) return false;
    }
    const auto count_met = [&](const json::value& list) {
      return std::ranges::count_if(list.as_array(), [&](const json::value& one) { return meets(value, one); });
    };
    if (const auto* any = get("anyOf"); any != nullptr && count_met(*any) == 0) return false;
    if (const auto* one = get("oneOf"); one != nullptr && count_met(*one) != 1) return false;
    if (const auto* all = get("allOf"); all != nullptr && count_met(*all) != std::ssize(all->as_array())) return false;
    if (value.is_number()) return meets_number(value.to_number<double>(), s);
    if (value.is_string()) return meets_string(std::string(value.as_string()), s);
    if (value.is_array()) return meets_array(value.as_array(), s);
    if (value.is_object()) return meets_object(value.as_object(), s);
    return true;
  }

 private:
  static bool is_type(const json::value& value, std::string_view type) {
    if (type == "null") return value.is_null();
    if (type == "boolean") return value.is_bool();
    if (type == "string") return value.is_string();
    if (type == "array") return value.is_array();
    if (type == "object") return value.is_object();
    if (type == "number") return value.is_number();
    return value.is_number() && value.to_number<double>() == std::floor(value.to_number<double>());
  }
  static bool has_type(const json::value& value, const json::value& type) {
    if (type.is_string()) return is_type(value, type.as_string());
    return std::ranges::any_of(type.as_array(), [&](const auto& one) { return is_type(value, one.as_string()); });
  }
  static double limit(const json::object& s, std::string_view key, double otherwise) {
    const json::value* given = s.if_contains(key);
    return given == nullptr ? otherwise : given->to_number<double>();
  }
  static bool between(std::size_t count, const json::object& s, const char* least, const char* most) {
    return static_cast<double>(count) >= limit(s, least, 0) && static_cast<double>(count) <= limit(s, most, 1e18);
  }
  static bool meets_number(double value, const json::object& s) {
    if (value < limit(s, "minimum", -INFINITY) || value > limit(s, "maximum", INFINITY)) return false;
    if (value <= limit(s, "exclusiveMinimum", -INFINITY) || value >= limit(s, "exclusiveMaximum", INFINITY))
      return false;
    const double step = limit(s, "multipleOf", 0);
    return step == 0 || std::fmod(value, step) == 0;
  }
  static bool meets_string(const std::string& value, const json::object& s) {
    if (!between(characters(value), s, "minLength", "maxLength")) return false;
    const json::value* pattern = s.if_contains("pattern");
    if (pattern == nullptr) return true;
    return std::regex_search(wide(value), std::wregex(wide(std::string(pattern->as_string())), std::regex::ECMAScript));
  }
  bool meets_array(const json::array& value, const json::object& s) const {
    if (!between(value.size(), s, "minItems", "maxItems")) return false;
    const json::value* prefix = s.if_contains("prefixItems");
    const std::size_t named = prefix == nullptr ? 0 : prefix->as_array().size();
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (i < named) {
        if (!meets(value[i], prefix->as_array()[i])) return false;
      } else if (const json::value* items = s.if_contains("items")) {
        if (!meets(value[i], *items)) return false;
      }
    }
    return true;
  }
  bool meets_object(const json::object& value, const json::object& s) const {
    if (!between(value.size(), s, "minProperties", "maxProperties")) return false;
    if (const json::value* required = s.if_contains("required")) {
      for (const json::value& name : required->as_array()) {
        if (!value.contains(name.as_string())) return false;
      }
    }
    const json::value* properties = s.if_contains("properties");
    for (const auto& [name, child] : value) {
      const json::value* own = properties == nullptr ? nullptr : properties->as_object().if_contains(name);
      const json::value* schema = own != nullptr ? own : s.if_contains("additionalProperties");
      if (schema != nullptr && !meets(child, *schema)) return false;
    }
    return true;
  }

  const json::value& root_;
};

// Random schemas of what the compiler supports, and values that meet them.
class SchemaMaker {
 public:
  explicit SchemaMaker(std::uint64_t seed) : rng_(seed) {}

  json::value schema() {
    json::value root = any(3);
    if (!root.is_object()) root = json::object{{"type", "object"}};
    root.as_object()["$defs"] = json::object{{"leaf", scalar()}, {"tree", tree()}};
    return root;
  }

  // A value that meets the schema; of bounded depth.
  json::value value(const json::value& root, const json::value& schema, int depth = 0) {
    if (schema.is_bool()) return free_value(depth);
    const json::object& s = schema.as_object();
    if (const auto* ref = s.if_contains("$ref")) return value(root, *resolve(root, *ref), depth + 1);
    for (const char* choice : {"anyOf", "oneOf"}) {
      if (const auto* list = s.if_contains(choice))
        return value(root, depth > 6 ? list->as_array()[0] : list->as_array()[pick(list->as_array().size())],
                     depth + 1);
    }
    if (const auto* only = s.if_contains("const")) return *only;
    if (const auto* list = s.if_contains("enum")) return list->as_array()[pick(list->as_array().size())];
    const json::value* type = s.if_contains("type");
    if (type == nullptr) return free_value(depth);
    const std::string name(type->is_array() ? type->as_array()[pick(type->as_array().size())].as_string()
                                            : type->as_string());
    if (name == "null") return nullptr;
    if (name == "boolean") return pick(2) == 0;
    if (name == "integer") return integer(s);
    if (name == "number") return static_cast<double>(integer(s)) + (chance(0.5) && s.contains("maximum") ? 0 : 0.5);
    if (name == "string") return json::value(string(s));
    if (name == "array") return array(root, s, depth);
    return object(root, s, depth);
  }

  std::size_t pick(std::size_t count) { return static_cast<std::size_t>(rng_() % count); }
  bool chance(double p) { return std::uniform_real_distribution<>(0, 1)(rng_) < p; }

 private:
  static const json::value* resolve(const json::value& root, const json::value& ref) {
    const std::string at(ref.as_string());
    json::error_code code;
    return at == "#" ? &root : root.find_pointer(at.substr(1), code);
  }
  std::string name() {
    static const char* const kNames[] = {"a", "b", "ab", "name", "näme", "x\"y", "c\\d", "", "line\n", "キー"};
    return kNames[pick(std::size(kNames))];
  }
  json::object scalar() {
    switch (pick(8)) {
      case 0:
        return {{"type", "null"}};
      case 1:
        return {{"type", "boolean"}};
      case 2: {
        json::object s{{"type", "integer"}};
        const auto low = static_cast<std::int64_t>(pick(4000)) - 2000;
        if (chance(0.5)) s[chance(0.5) ? "minimum" : "exclusiveMinimum"] = low;
        if (chance(0.5))
          s[chance(0.5) ? "maximum" : "exclusiveMaximum"] = low + 20 + static_cast<std::int64_t>(pick(500));
        if (chance(0.3)) s["multipleOf"] = 1 + static_cast<std::int64_t>(pick(9));
        return s;
      }
      case 3: {
        json::object s{{"type", "number"}};
        const double low = static_cast<double>(pick(4000)) / 8 - 200;
        if (chance(0.5)) s["minimum"] = low;
        if (chance(0.5)) s["maximum"] = low + 5.25;
        return s;
      }
      case 4:
        return {{"enum", json::array{"red", "rote", 1, 12, -3, nullptr, true, "q\"uote", "redder"}}};
      case 5:
        return {{"const", chance(0.5) ? json::value("only") : json::value(json::array{1, json::object{{"k", "v"}}})}};
      case 6: {
        static const char* const kPatterns[] = {"^[a-c]{2,4}$", "^a|b$",      "x+",         "^(foo|ba[rz])?[0-9]{1,3}$",
                                                "^\\w+@\\w+$",  "^[^\"]{3}$", "\\\\|/|\\n", "^(\\d\\d-)*\\d\\d$"};
        return {{"type", "string"}, {"pattern", kPatterns[pick(std::size(kPatterns))]}};
      }
      default: {
        json::object s{{"type", "string"}};
        const std::size_t low = pick(4);
        if (chance(0.4)) s["minLength"] = low;
        if (chance(0.4)) s["maxLength"] = low + pick(6);
        return s;
      }
    }
  }
  // Recursion that can end.
  json::object tree() {
    return {{"type", "object"},
            {"properties",
             {{"value", {{"type", "integer"}}},
              {"children", {{"type", "array"}, {"items", {{"$ref", "#/$defs/tree"}}}, {"maxItems", 3}}}}},
            {"required", {"value", "children"}},
            {"additionalProperties", false}};
  }
  json::value any(int depth) {
    const std::size_t kind = depth == 0 ? pick(2) : pick(9);
    if (kind == 0) return scalar();
    if (kind == 1) return json::object{{"$ref", chance(0.5) ? "#/$defs/leaf" : "#/$defs/tree"}};
    if (kind == 2) return json::object{{"anyOf", json::array{any(depth - 1), any(depth - 1), scalar()}}};
    if (kind == 3) {
      return json::object{{"oneOf", json::array{json::object{{"type", "null"}}, json::object{{"type", "string"}},
                                                json::object{{"type", "array"}, {"items", any(depth - 1)}}}}};
    }
    if (kind == 4 || kind == 5) {
      json::object s{{"type", "array"}, {"items", any(depth - 1)}};
      const std::size_t low = pick(3);
      if (chance(0.5)) s["minItems"] = low;
      if (chance(0.5)) s["maxItems"] = low + pick(3);
      if (chance(0.2)) s["prefixItems"] = json::array{scalar(), scalar()};
      return s;
    }
    json::object properties;
    json::array required;
    for (std::size_t i = 0, count = pick(5); i < count; ++i) {
      const std::string key = name();
      if (properties.contains(key)) continue;
      properties[key] = any(depth - 1);
      if (chance(0.6)) required.emplace_back(key);
    }
    json::object s{{"type", "object"}, {"properties", properties}, {"required", required}};
    if (chance(0.6)) {
      s["additionalProperties"] = false;
    } else if (chance(0.5)) {
      s["additionalProperties"] = scalar();
    }
    if (chance(0.15) && !s.contains("additionalProperties")) s["minProperties"] = 1 + pick(required.size() + 1);
    return s;
  }

  std::int64_t integer(const json::object& s) {
    const auto at = [&](const char* key) { return s.if_contains(key); };
    const auto whole = [](const json::value& v) { return v.to_number<double>(); };
    double low = at("minimum")            ? whole(*at("minimum"))
                 : at("exclusiveMinimum") ? whole(*at("exclusiveMinimum")) + 1
                                          : -1e9;
    double high = at("maximum")            ? whole(*at("maximum"))
                  : at("exclusiveMaximum") ? whole(*at("exclusiveMaximum")) - 1
                                           : 1e9;
    if (low == -1e9 && high != 1e9) low = high - 100;
    if (high == 1e9 && low != -1e9) high = low + 100;
    const std::int64_t step = at("multipleOf") ? at("multipleOf")->as_int64() : 1;
    const auto first = static_cast<std::int64_t>(std::ceil(low / static_cast<double>(step)));
    const auto last = static_cast<std::int64_t>(std::floor(high / static_cast<double>(step)));
    return (first + static_cast<std::int64_t>(pick(static_cast<std::size_t>(last - first + 1)))) * step;
  }
  std::string string(const json::object& s) {
    if (const auto* pattern = s.if_contains("pattern")) {
      static const std::pair<std::string_view, std::string_view> kExamples[] = {{"^[a-c]{2,4}$", "abc"},
                                                                                {"^a|b$", "all of it"},
                                                                                {"x+", "a xx y"},
                                                                                {"^(foo|ba[rz])?[0-9]{1,3}$", "baz42"},
                                                                                {"^\\w+@\\w+$", "me@here"},
                                                                                {"^[^\"]{3}$", "aé🚀"},
                                                                                {"\\\\|/|\\n", "to/from\\"},
                                                                                {"^(\\d\\d-)*\\d\\d$", "12-34-56"}};
      for (const auto& [text, example] : kExamples) {
        if (text == std::string_view(pattern->as_string())) return std::string(example);
      }
    }
    const std::size_t low = s.contains("minLength") ? static_cast<std::size_t>(s.at("minLength").to_number<int>()) : 0;
    const std::size_t high =
        s.contains("maxLength") ? static_cast<std::size_t>(s.at("maxLength").to_number<int>()) : low + 6;
    return text(low + pick(high - low + 1));
  }
  std::string text(std::size_t length) {
    static const char* const kPieces[] = {"a", "B", " ", "\"", "\\", "\n", "é", "漢", "🚀", "\x01", "/", "}"};
    std::string out;
    for (std::size_t i = 0; i < length; ++i) out += kPieces[pick(std::size(kPieces))];
    return out;
  }
  json::value free_value(int depth) {
    switch (pick(depth > 4 ? 4 : 6)) {
      case 0:
        return nullptr;
      case 1:
        return chance(0.5);
      case 2:
        return chance(0.5) ? json::value(-17) : json::value(2.5e-3);
      case 3:
        return json::value(text(pick(5)));
      case 4:
        return json::array{free_value(depth + 1), free_value(depth + 1)};
      default:
        return json::object{{text(2), free_value(depth + 1)}, {"k", free_value(depth + 1)}};
    }
  }
  json::value array(const json::value& root, const json::object& s, int depth) {
    const std::size_t low = s.contains("minItems") ? static_cast<std::size_t>(s.at("minItems").to_number<int>()) : 0;
    const std::size_t high =
        s.contains("maxItems") ? static_cast<std::size_t>(s.at("maxItems").to_number<int>()) : low + 3;
    const std::size_t count = depth > 6 ? low : low + pick(high - low + 1);
    json::array out;
    const json::value* prefix = s.if_contains("prefixItems");
    for (std::size_t i = 0; i < count; ++i) {
      const bool named = prefix != nullptr && i < prefix->as_array().size();
      out.push_back(value(root, named ? prefix->as_array()[i] : s.at("items"), depth + 1));
    }
    return out;
  }
  json::value object(const json::value& root, const json::object& s, int depth) {
    json::object out;
    const auto is_required = [&](std::string_view key) {
      return s.contains("required") && std::ranges::any_of(s.at("required").as_array(), [&](const json::value& one) {
               return std::string_view(one.as_string()) == key;
             });
    };
    if (const auto* properties = s.if_contains("properties")) {
      for (const auto& [key, schema] : properties->as_object()) {
        if (is_required(key) || (depth < 5 && chance(0.5))) out[key] = value(root, schema, depth + 1);
      }
    }
    const json::value* additional = s.if_contains("additionalProperties");
    const bool is_closed = additional != nullptr && additional->is_bool();
    const std::size_t least =
        s.contains("minProperties") ? static_cast<std::size_t>(s.at("minProperties").to_number<int>()) : 0;
    while (!is_closed && (out.size() < least || chance(0.2))) {
      const std::string key = "more" + std::to_string(out.size()) + text(1);
      out[key] = additional == nullptr ? free_value(depth + 1) : value(root, *additional, depth + 1);
    }
    return out;
  }

  std::mt19937_64 rng_;
};

}  // namespace consort::tests
