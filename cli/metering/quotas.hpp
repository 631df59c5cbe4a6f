// KeyQuotas: how much each API key may ask for, in the time that is given. Pure. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/metering/usage.hpp"
#include "runtime/time.hpp"

namespace consort::cli {

// 0: no limit.
struct KeyLimits {
  std::uint64_t requests_per_minute = 0;
  std::uint64_t tokens_per_minute = 0;  // prompts and answers
  std::uint64_t concurrent = 0;         // requests that run at once
  std::uint64_t tokens_per_day = 0;     // of UTC
  bool operator==(const KeyLimits&) const = default;
};

// Holds a minute's worth, and fills up at that rate. May be overdrawn: what was made is not taken back.
class TokenBucket {
 public:
  // Another limit than before keeps what is missing.
  void set(std::uint64_t per_minute, runtime::Instant now);
  double level(runtime::Instant now) const;
  // How long until so much is there; more than the whole is never asked for.
  runtime::Duration until(double amount, runtime::Instant now) const;
  void take(double amount, runtime::Instant now);  // negative: gives back
  std::uint64_t per_minute() const { return per_minute_; }

 private:
  std::uint64_t per_minute_ = 0;
  double missing_ = 0;  // of a full one, at `since_`
  runtime::Instant since_{};
};

enum class Quota : std::uint8_t { kRequestsPerMinute, kTokensPerMinute, kConcurrent, kTokensPerDay };
struct QuotaOver {
  Quota quota = Quota::kRequestsPerMinute;
  std::uint64_t limit = 0;
  runtime::Duration retry_after{0};  // rounded up to a second
};

class KeyQuotas {
 public:
  struct Now {
    runtime::Instant at;
    UtcDay day;
    runtime::Duration day_left;
  };
  // Of an earlier life.
  void spent_before(const std::string& key, UtcDay day, std::uint64_t tokens);

  // What of the limits the request is over; then nothing is taken. `tokens`: what it may need.
  std::optional<QuotaOver> check(const std::string& key, const KeyLimits& limits, std::uint64_t tokens, const Now& now);
  // After a check: it runs, and so many of its tokens are set aside.
  void begin(const std::string& key, std::uint64_t tokens, const Now& now);
  // It needed more than was set aside; negative: less.
  void adjust(const std::string& key, std::int64_t tokens, const Now& now);
  // So many tokens were really used.
  void spend(const std::string& key, std::uint64_t tokens, const Now& now);
  void end(const std::string& key);

  // OpenAI's x-ratelimit-* fields.
  std::vector<std::pair<std::string_view, std::string>> fields(const std::string& key, const Now& now) const;

 private:
  struct State {
    TokenBucket requests, tokens;
    std::uint64_t running = 0;
    UtcDay day{};
    std::uint64_t spent_today = 0;
  };
  State& state(const std::string& key, const KeyLimits& limits, const Now& now);

  std::map<std::string, State> keys_;  // no more than there were keys: at most kMaxApiKeys at a time
};

}  // namespace consort::cli
