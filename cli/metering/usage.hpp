// What was used, per day and API key. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace consort::cli {

// A day of UTC.
using UtcDay = std::chrono::sys_days;
std::string day_text(UtcDay day);  // "2026-01-31"
std::optional<UtcDay> parse_day(std::string_view text);

struct Usage {
  std::uint64_t prompt_tokens = 0;  // cached ones too
  std::uint64_t cached_tokens = 0;
  std::uint64_t completion_tokens = 0;  // thoughts too
  std::uint64_t reasoning_tokens = 0;
  std::uint64_t requests = 0;      // taken in
  std::uint64_t failed = 0;        // of them, ended by an error of the service or of the request
  std::uint64_t milliseconds = 0;  // from the request's arrival to its last byte, summed over requests

  Usage& operator+=(const Usage& other);
  bool operator==(const Usage&) const = default;
  bool empty() const { return *this == Usage{}; }
};

// Requests that needed no key. No key can have this name.
inline constexpr std::string_view kNoKey = "~";

struct UsageSums {
  std::map<std::pair<UtcDay, std::string>, Usage> used;  // by day and key
  std::map<UtcDay, std::uint64_t> up_milliseconds;       // how long the Gateway lived

  void add(UtcDay day, const std::string& key, const Usage& usage) { used[{day, key}] += usage; }
  void add(const UsageSums& other);
  bool empty() const { return used.empty() && up_milliseconds.empty(); }
  bool operator==(const UsageSums&) const = default;
};

}  // namespace consort::cli
