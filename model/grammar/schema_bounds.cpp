#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "model/grammar/schema_bounds-inl.hpp"
#include "model/grammar/schema_merge-inl.hpp"
#include "model/grammar/schema_text-inl.hpp"

namespace consort::model {

namespace json = boost::json;
using runtime::Outcome;

namespace {

constexpr std::uint32_t kDigits = NumberShape::kMaxDigits;
constexpr std::uint32_t kOpenFraction = 4;     // digits behind the point where a side has no bound
constexpr std::uint32_t kClosedFraction = 12;  // at most, where both have

constexpr std::int64_t power_of_ten(std::uint32_t exponent) {
  std::int64_t value = 1;
  for (std::uint32_t i = 0; i < exponent; ++i) value *= 10;
  return value;
}

// digits * 10^exponent, as the schema says it.
struct Decimal {
  std::int64_t digits = 0;
  std::int32_t exponent = 0;
};

std::optional<Decimal> decimal_of(const json::value& value) {
  if (!value.is_number()) return std::nullopt;
  const std::string text = json_compact(value);
  Decimal out;
  std::size_t at = text.starts_with('-') ? 1 : 0;
  bool behind_point = false;
  for (; at < text.size() && text[at] != 'e'; ++at) {
    if (text[at] == '.') {
      behind_point = true;
      continue;
    }
    if (out.digits > INT64_MAX / 10 - 10) return std::nullopt;
    out.digits = out.digits * 10 + (text[at] - '0');
    if (behind_point) --out.exponent;
  }
  if (at < text.size()) {
    std::int32_t exponent = 0;
    const char* first = text.data() + at + 1 + (text[at + 1] == '+' ? 1 : 0);
    std::from_chars(first, text.data() + text.size(), exponent);
    out.exponent += exponent;
  }
  while (out.digits != 0 && out.digits % 10 == 0) {
    out.digits /= 10;
    ++out.exponent;
  }
  if (out.digits == 0) out.exponent = 0;
  if (text.starts_with('-')) out.digits = -out.digits;
  return out;
}

enum class Rounding : std::uint8_t { kDown, kUp };
// In units of 10^-fraction; nothing where that is too large.
std::optional<std::int64_t> in_units(const Decimal& decimal, std::uint32_t fraction, Rounding rounding) {
  const std::int32_t shift = decimal.exponent + static_cast<std::int32_t>(fraction);
  std::int64_t value = decimal.digits;
  for (std::int32_t i = 0; i < shift; ++i) {
    if (value > power_of_ten(17) || value < -power_of_ten(17)) return std::nullopt;
    value *= 10;
  }
  for (std::int32_t i = shift; i < 0; ++i) {
    const std::int64_t rest = value % 10;
    value /= 10;
    if (rest > 0 && rounding == Rounding::kUp) ++value;
    if (rest < 0 && rounding == Rounding::kDown) --value;
  }
  return value;
}

struct Bound {
  Decimal at;
  bool is_open = false;  // the bound itself is outside
  std::string where;
};

}  // namespace

Outcome<std::optional<NumberShape>> number_of_bounds(const json::object& schema, bool is_integer,
                                                     const std::string& pointer) {
  NumberShape shape;
  shape.is_integer = is_integer;
  if (const json::value* given = schema.if_contains("multipleOf")) {
    const auto step = decimal_of(*given);
    const auto units = step ? in_units(*step, 0, Rounding::kDown) : std::nullopt;
    const bool is_whole = units && *units > 0 && step->exponent >= 0 && *units < power_of_ten(kDigits);
    if (!is_whole)
      return schema_error(pointer_step(pointer, "multipleOf"), "other than of a whole number is not supported");
    shape.multiple_of = *units;
    shape.is_integer = true;
    shape.is_bounded = true;
  }
  const auto bound = [&](std::string_view closed, std::string_view open) -> Outcome<std::vector<Bound>> {
    std::vector<Bound> bounds;
    for (const std::string_view keyword : {closed, open}) {
      const json::value* given = schema.if_contains(keyword);
      if (given == nullptr) continue;
      const std::string where = pointer_step(pointer, keyword);
      const auto decimal = decimal_of(*given);
      if (!decimal) return schema_error(where, "must be a number of at most 18 digits");
      bounds.push_back({*decimal, keyword == open, where});
    }
    return bounds;
  };
  CONSORT_TRY(const auto lows, bound("minimum", "exclusiveMinimum"));
  CONSORT_TRY(const auto highs, bound("maximum", "exclusiveMaximum"));
  if (lows.empty() && highs.empty() && !shape.is_bounded) return std::optional(shape);
  shape.is_bounded = true;
  if (!shape.is_integer) {
    std::int32_t needed = 0;
    double largest = 1;
    for (const auto* side : {&lows, &highs}) {
      for (const Bound& one : *side) {
        needed = std::max(needed, -one.at.exponent);
        largest = std::max(largest, std::abs(static_cast<double>(one.at.digits) * std::pow(10.0, one.at.exponent)));
        if (one.at.exponent < -static_cast<std::int32_t>(kClosedFraction))
          return schema_error(one.where,
                              "has more than " + std::to_string(kClosedFraction) + " digits behind its point");
      }
    }
    const bool is_closed = !lows.empty() && !highs.empty();
    const auto before_point = static_cast<std::int32_t>(std::floor(std::log10(largest))) + 1;
    const std::int32_t room = std::max(0, static_cast<std::int32_t>(kDigits) - before_point);
    const auto wanted = static_cast<std::int32_t>(is_closed ? kClosedFraction : kOpenFraction);
    shape.fraction_digits = static_cast<std::uint32_t>(std::max(needed, std::min(room, wanted)));
    if (static_cast<std::int32_t>(shape.fraction_digits) > room) {
      const Bound& named = lows.empty() ? highs[0] : lows[0];
      return schema_error(
          named.where, "and what bounds the other side have more than " + std::to_string(kDigits) + " digits together");
    }
  }
  const std::int64_t limit = power_of_ten(kDigits) - 1;
  shape.low = -limit;
  shape.high = limit;
  for (const Bound& one : lows) {
    const auto up = in_units(one.at, shape.fraction_digits, Rounding::kUp);
    const auto down = in_units(one.at, shape.fraction_digits, Rounding::kDown);
    if (!up || *up > limit) {
      if (one.at.digits < 0) continue;  // below everything that is written
      return schema_error(one.where, "is too large: numbers have at most " + std::to_string(kDigits) + " digits");
    }
    shape.low = std::max(shape.low, one.is_open && *up == *down ? *up + 1 : *up);
  }
  for (const Bound& one : highs) {
    const auto up = in_units(one.at, shape.fraction_digits, Rounding::kUp);
    const auto down = in_units(one.at, shape.fraction_digits, Rounding::kDown);
    if (!down || *down < -limit) {
      if (one.at.digits > 0) continue;
      return schema_error(one.where, "is too small: numbers have at most " + std::to_string(kDigits) + " digits");
    }
    shape.high = std::min(shape.high, one.is_open && *up == *down ? *down - 1 : *down);
  }
  // A multiple must lie between.
  const std::int64_t rest = shape.low % shape.multiple_of;
  const std::int64_t first = rest == 0 ? shape.low : rest > 0 ? shape.low + shape.multiple_of - rest : shape.low - rest;
  if (first > shape.high) return std::optional<NumberShape>();
  return std::optional(shape);
}

}  // namespace consort::model
