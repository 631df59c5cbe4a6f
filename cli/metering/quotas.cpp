#include "cli/metering/quotas.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "runtime/check.hpp"

namespace consort::cli {

using runtime::Duration;
using runtime::Instant;

namespace {

constexpr double kMinuteNs = 60e9;

Duration in_seconds(Duration time) { return std::chrono::ceil<std::chrono::seconds>(time); }

// As OpenAI writes it: "20ms", "1.5s", "6m0s".
std::string reset_text(Duration time) {
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(time).count();
  char text[32];
  if (ms < 1000) {
    std::snprintf(text, sizeof text, "%lldms", static_cast<long long>(ms));
  } else if (ms < 60'000) {
    std::snprintf(text, sizeof text, "%.3gs", static_cast<double>(ms) / 1000);
  } else {
    const auto s = (ms + 999) / 1000;
    std::snprintf(text, sizeof text, "%lldm%llds", static_cast<long long>(s / 60), static_cast<long long>(s % 60));
  }
  return text;
}

}  // namespace

// --- a bucket --------------------------------------------------------------------------------------------------------

void TokenBucket::set(std::uint64_t per_minute, Instant now) {
  if (per_minute == per_minute_) return;
  missing_ = per_minute_ == 0 ? 0 : static_cast<double>(per_minute_) - level(now);
  since_ = now;
  per_minute_ = per_minute;
}

double TokenBucket::level(Instant now) const {
  const auto full = static_cast<double>(per_minute_);
  const double filled = full * static_cast<double>((now - since_).count()) / kMinuteNs;
  return full - std::max(0.0, missing_ - filled);
}

Duration TokenBucket::until(double amount, Instant now) const {
  const auto full = static_cast<double>(per_minute_);
  const double lacks = std::min(amount, full) - level(now);
  if (lacks <= 0) return Duration(0);
  return Duration(static_cast<std::int64_t>(std::ceil(lacks / full * kMinuteNs)));
}

void TokenBucket::take(double amount, Instant now) {
  missing_ = std::max(0.0, static_cast<double>(per_minute_) - level(now) + amount);
  since_ = now;
}

// --- the keys --------------------------------------------------------------------------------------------------------

KeyQuotas::State& KeyQuotas::state(const std::string& key, const KeyLimits& limits, const Now& now) {
  State& state = keys_[key];
  state.requests.set(limits.requests_per_minute, now.at);
  state.tokens.set(limits.tokens_per_minute, now.at);
  if (state.day != now.day) {
    state.day = now.day;
    state.spent_today = 0;
  }
  return state;
}

void KeyQuotas::spent_before(const std::string& key, UtcDay day, std::uint64_t tokens) {
  State& state = keys_[key];
  state.day = day;
  state.spent_today = tokens;
}

std::optional<QuotaOver> KeyQuotas::check(const std::string& key, const KeyLimits& limits, std::uint64_t tokens,
                                          const Now& now) {
  const State& s = state(key, limits, now);
  if (limits.tokens_per_day > 0 && s.spent_today >= limits.tokens_per_day)
    return QuotaOver{Quota::kTokensPerDay, limits.tokens_per_day, in_seconds(now.day_left)};
  if (limits.concurrent > 0 && s.running >= limits.concurrent)
    return QuotaOver{Quota::kConcurrent, limits.concurrent, std::chrono::seconds(1)};
  if (limits.requests_per_minute > 0) {
    const Duration wait = s.requests.until(1, now.at);
    if (wait > Duration(0)) return QuotaOver{Quota::kRequestsPerMinute, limits.requests_per_minute, in_seconds(wait)};
  }
  if (limits.tokens_per_minute > 0) {
    const Duration wait = s.tokens.until(static_cast<double>(std::max<std::uint64_t>(tokens, 1)), now.at);
    if (wait > Duration(0)) return QuotaOver{Quota::kTokensPerMinute, limits.tokens_per_minute, in_seconds(wait)};
  }
  return std::nullopt;
}

void KeyQuotas::begin(const std::string& key, std::uint64_t tokens, const Now& now) {
  State& s = keys_.at(key);
  ++s.running;
  if (s.requests.per_minute() > 0) s.requests.take(1, now.at);
  if (s.tokens.per_minute() > 0) s.tokens.take(static_cast<double>(tokens), now.at);
}

void KeyQuotas::adjust(const std::string& key, std::int64_t tokens, const Now& now) {
  State& s = keys_.at(key);
  if (s.tokens.per_minute() > 0 && tokens != 0) s.tokens.take(static_cast<double>(tokens), now.at);
}

void KeyQuotas::spend(const std::string& key, std::uint64_t tokens, const Now& now) {
  State& s = keys_.at(key);
  if (s.day != now.day) {
    s.day = now.day;
    s.spent_today = 0;
  }
  s.spent_today += tokens;
}

void KeyQuotas::end(const std::string& key) {
  State& s = keys_.at(key);
  CONSORT_CHECK(s.running > 0, key);
  --s.running;
}

std::vector<std::pair<std::string_view, std::string>> KeyQuotas::fields(const std::string& key, const Now& now) const {
  std::vector<std::pair<std::string_view, std::string>> fields;
  const auto found = keys_.find(key);
  if (found == keys_.end()) return fields;
  const auto add = [&](const TokenBucket& bucket, std::string_view limit, std::string_view left,
                       std::string_view reset) {
    if (bucket.per_minute() == 0) return;
    fields.emplace_back(limit, std::to_string(bucket.per_minute()));
    fields.emplace_back(left, std::to_string(static_cast<std::uint64_t>(std::max(0.0, bucket.level(now.at)))));
    fields.emplace_back(reset, reset_text(bucket.until(static_cast<double>(bucket.per_minute()), now.at)));
  };
  add(found->second.requests, "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
      "x-ratelimit-reset-requests");
  add(found->second.tokens, "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens");
  return fields;
}

}  // namespace consort::cli
