#include "cli/metering/usage.hpp"

#include <charconv>
#include <cstdio>

namespace consort::cli {

namespace {

constexpr int kFirstYear = 1970, kLastYear = 9999;

}  // namespace

std::string day_text(UtcDay day) {
  const std::chrono::year_month_day date(day);
  char text[32];
  std::snprintf(text, sizeof text, "%04d-%02u-%02u", static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                static_cast<unsigned>(date.day()));
  return text;
}

std::optional<UtcDay> parse_day(std::string_view text) {
  if (text.size() != 10 || text[4] != '-' || text[7] != '-') return std::nullopt;
  const auto number = [&](std::size_t at, std::size_t digits) {
    int value = -1;
    const char* end = text.data() + at + digits;
    const auto read = std::from_chars(text.data() + at, end, value);
    return read.ec == std::errc() && read.ptr == end ? value : -1;
  };
  const int year = number(0, 4), month = number(5, 2), day = number(8, 2);
  if (year < kFirstYear || year > kLastYear || month < 1 || day < 1) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok()) return std::nullopt;
  return UtcDay(date);
}

Usage& Usage::operator+=(const Usage& other) {
  prompt_tokens += other.prompt_tokens;
  cached_tokens += other.cached_tokens;
  completion_tokens += other.completion_tokens;
  reasoning_tokens += other.reasoning_tokens;
  requests += other.requests;
  failed += other.failed;
  milliseconds += other.milliseconds;
  return *this;
}

void UsageSums::add(const UsageSums& other) {
  for (const auto& [at, usage] : other.used) used[at] += usage;
  for (const auto& [day, milliseconds] : other.up_milliseconds) up_milliseconds[day] += milliseconds;
}

}  // namespace consort::cli
