#include "model/grammar/schema_text-inl.hpp"

#include <array>
#include <boost/json.hpp>
#include <charconv>

namespace consort::model {

namespace json = boost::json;

std::string json_quoted(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\b') {
      out += "\\b";
    } else if (c == '\f') {
      out += "\\f";
    } else if (byte < 0x20) {
      out += "\\u00";
      out += {kHex[byte >> 4], kHex[byte & 15]};
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string json_compact(const json::value& value) {
  std::string out;
  switch (value.kind()) {
    case json::kind::object: {
      for (const auto& [key, child] : value.get_object())
        out += (out.empty() ? "" : ",") + json_quoted(key) + ":" + json_compact(child);
      return "{" + out + "}";
    }
    case json::kind::array:
      for (const auto& child : value.get_array()) out += (out.empty() ? "" : ",") + json_compact(child);
      return "[" + out + "]";
    case json::kind::string:
      return json_quoted(value.get_string());
    case json::kind::double_: {
      std::array<char, 32> digits{};
      const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value.get_double());
      return {digits.data(), end.ptr};
    }
    case json::kind::int64:
      return std::to_string(value.get_int64());
    case json::kind::uint64:
      return std::to_string(value.get_uint64());
    case json::kind::bool_:
      return value.get_bool() ? "true" : "false";
    case json::kind::null:
      break;
  }
  return "null";
}

std::string pointer_step(std::string_view pointer, std::string_view key) {
  std::string out(pointer);
  out += '/';
  for (const char c : key) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace consort::model
