// Reads the objects of a request's body field by field.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json.hpp>
#include <cmath>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "cli/http/api_request.hpp"

namespace consort::cli {

namespace json = boost::json;

// One object of a body. Fields are taken out one by one; the first thing that is wrong stays in `refusal`. A field that
// is null counts as absent, as in OpenAI's API.
class Fields {
 public:
  Fields(const json::object& object, std::string path, std::optional<Refusal>& refusal)
      : object_(object), path_(std::move(path)), refusal_(refusal) {}

  void refuse(std::string_view key, const std::string& what, std::string code = "") {
    if (refusal_) return;
    const std::string param = path_ + std::string(key);
    refusal_ = Refusal{400, "invalid_request_error", std::move(code), param, "'" + param + "' " + what};
  }
  const json::value* find(std::string_view key) {
    known_.insert(std::string(key));
    const json::value* value = object_.if_contains(key);
    return value == nullptr || value->is_null() ? nullptr : value;
  }
  const json::value* need(std::string_view key) {
    const json::value* value = find(key);
    if (value == nullptr) refuse(key, "is missing");
    return value;
  }
  void read(std::string_view key, bool& out) {
    const json::value* value = find(key);
    if (value == nullptr) return;
    if (!value->is_bool()) return refuse(key, "must be true or false");
    out = value->as_bool();
  }
  void read(std::string_view key, std::string& out) {
    const json::value* value = find(key);
    if (value == nullptr) return;
    if (!value->is_string()) return refuse(key, "must be a text");
    out = std::string_view(value->as_string());
  }
  std::optional<std::int64_t> integer(std::string_view key, std::int64_t least, std::int64_t most) {
    const json::value* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_int64() || value->as_int64() < least || value->as_int64() > most) {
      refuse(key, "must be a whole number from " + std::to_string(least) + " to " + std::to_string(most));
      return std::nullopt;
    }
    return value->as_int64();
  }
  void number(std::string_view key, double least, double most, bool without_least, float& out) {
    const json::value* value = find(key);
    if (value == nullptr) return;
    const double given = value->is_double()  ? value->as_double()
                         : value->is_int64() ? static_cast<double>(value->as_int64())
                                             : std::nan("");
    const bool fits = given >= least && given <= most && !(without_least && given <= least);
    if (!fits) {
      return refuse(key, std::string("must be a number ") + (without_least ? "above " : "from ") + short_text(least) +
                             " to " + short_text(most));
    }
    out = static_cast<float>(given);
  }
  // A field that is known and has no use here.
  void ignore(std::string_view key) { (void)find(key); }
  // A field that may only say what happens anyway.
  template <class IsNeutral>
  void only(std::string_view key, IsNeutral is_neutral, const std::string& what) {
    const json::value* value = find(key);
    if (value != nullptr && !is_neutral(*value)) refuse(key, what, "unsupported_parameter");
  }
  void finish() {
    for (const auto& entry : object_) {
      const std::string key(entry.key());
      if (!known_.contains(key)) return refuse(key.substr(0, 64), "is not known here", "unknown_parameter");
    }
  }
  const std::string& path() const { return path_; }
  std::optional<Refusal>& refusal() { return refusal_; }

 private:
  static std::string short_text(double value) {
    return value == std::floor(value) ? std::to_string(static_cast<std::int64_t>(value)) : std::to_string(value);
  }

  const json::object& object_;
  const std::string path_;
  std::optional<Refusal>& refusal_;
  std::set<std::string> known_;
};

inline bool is_number(const json::value& value, double number) {
  return (value.is_int64() && static_cast<double>(value.as_int64()) == number) ||
         (value.is_double() && value.as_double() == number);
}
inline bool is_empty(const json::value& value) {
  return (value.is_array() && value.as_array().empty()) || (value.is_object() && value.as_object().empty());
}
inline bool is_text(const json::value& value, std::initializer_list<std::string_view> texts) {
  if (!value.is_string()) return false;
  for (const std::string_view text : texts) {
    if (std::string_view(value.as_string()) == text) return true;
  }
  return false;
}
inline bool is_false(const json::value& value) { return value.is_bool() && !value.as_bool(); }

}  // namespace consort::cli
