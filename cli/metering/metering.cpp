#include "cli/metering/metering.hpp"

#include <algorithm>

namespace consort::cli {

using runtime::Duration;

namespace {

// How often an idle Gateway notes that it lives: what a kill loses of its hours.
constexpr Duration kNoteLifeEvery = std::chrono::seconds(10);

std::uint64_t milliseconds(Duration time) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, time / std::chrono::milliseconds(1)));
}

Usage difference(const actors::AnswerUsage& now, const actors::AnswerUsage& before) {
  Usage usage;
  usage.prompt_tokens = now.prompt_tokens - before.prompt_tokens;
  usage.cached_tokens = now.cached_tokens - before.cached_tokens;
  usage.completion_tokens = now.completion_tokens - before.completion_tokens;
  usage.reasoning_tokens = now.reasoning_tokens - before.reasoning_tokens;
  return usage;
}

}  // namespace

Metering::Metering(const runtime::Clock& clock, std::unique_ptr<UsageLog> log)
    : clock_(clock), log_(std::move(log)), up_since_(clock.now()) {
  if (!log_) return;
  const UtcDay today = now().day;
  for (const auto& [at, usage] : log_->sums().used) {
    if (at.first == today) quotas_.spent_before(at.second, today, usage.prompt_tokens + usage.completion_tokens);
  }
}

KeyQuotas::Now Metering::now() const {
  const std::chrono::sys_time<Duration> wall{Duration(clock_.unix_ns())};
  const UtcDay day = std::chrono::floor<std::chrono::days>(wall);
  return {clock_.now(), day, day + std::chrono::days(1) - wall};
}

std::optional<QuotaOver> Metering::look(const Payer& payer) { return quotas_.check(payer.key, payer.limits, 0, now()); }

Metering::Admission Metering::admit(const Payer& payer, std::uint64_t tokens, runtime::Instant begun) {
  const KeyQuotas::Now at = now();
  // One that needs more than a minute gives can only wait for the whole minute.
  if (payer.limits.tokens_per_minute > 0) tokens = std::min(tokens, payer.limits.tokens_per_minute);
  if (auto over = quotas_.check(payer.key, payer.limits, tokens, at)) return {over, nullptr};
  quotas_.begin(payer.key, tokens, at);
  return {std::nullopt, std::unique_ptr<Request>(new Request(*this, payer.key, tokens, begun))};
}

void Metering::count_refused(const Payer& payer) {
  if (!log_) return;
  Usage usage;
  usage.requests = usage.failed = 1;
  log_->add(now().day, payer.key, usage);
}

std::vector<std::pair<std::string_view, std::string>> Metering::fields(const Payer& payer) const {
  return quotas_.fields(payer.key, now());
}

void Metering::tick() {
  if (!log_) return;
  if (clock_.now() - up_since_ >= kNoteLifeEvery) note_life();
  log_->commit();
}

void Metering::note_life() {
  const KeyQuotas::Now at = now();
  log_->add_up(at.day, milliseconds(at.at - up_since_));
  up_since_ = at.at;
}

Metering::~Metering() {
  if (log_) note_life();
}

// --- a request -------------------------------------------------------------------------------------------------------

Metering::Request::Request(Metering& metering, std::string key, std::uint64_t reserved, runtime::Instant begun)
    : metering_(metering), key_(std::move(key)), taken_(reserved), told_at_(begun) {}

Metering::Request::~Request() { end(told_, false); }

void Metering::Request::progress(const actors::AnswerUsage& so_far) {
  const KeyQuotas::Now at = metering_.now();
  Usage usage = difference(so_far, told_);
  usage.milliseconds = milliseconds(at.at - told_at_);
  told_ = so_far;
  told_at_ += std::chrono::milliseconds(usage.milliseconds);
  metering_.quotas_.spend(key_, usage.prompt_tokens + usage.completion_tokens, at);
  const std::uint64_t used = std::uint64_t{so_far.prompt_tokens} + so_far.completion_tokens;
  if (used > taken_) {
    metering_.quotas_.adjust(key_, static_cast<std::int64_t>(used - taken_), at);
    taken_ = used;
  }
  if (metering_.log_) metering_.log_->add(at.day, key_, usage);
}

void Metering::Request::end(const actors::AnswerUsage& in_all, bool failed) {
  if (std::exchange(ended_, true)) return;
  progress(in_all);
  const KeyQuotas::Now at = metering_.now();
  const std::uint64_t used = std::uint64_t{in_all.prompt_tokens} + in_all.completion_tokens;
  if (used < taken_) metering_.quotas_.adjust(key_, -static_cast<std::int64_t>(taken_ - used), at);
  metering_.quotas_.end(key_);
  if (!metering_.log_) return;
  Usage usage;
  usage.requests = 1;
  usage.failed = failed ? 1 : 0;
  metering_.log_->add(at.day, key_, usage);
}

std::string quota_message(const QuotaOver& over, const std::string& key) {
  const auto seconds = std::to_string(over.retry_after / std::chrono::seconds(1)) + " s";
  const std::string limit = std::to_string(over.limit);
  switch (over.quota) {
    case Quota::kRequestsPerMinute:
      return "rate limit reached for key '" + key + "': " + limit + " requests per minute; try again in " + seconds;
    case Quota::kTokensPerMinute:
      return "rate limit reached for key '" + key + "': " + limit + " tokens per minute; try again in " + seconds;
    case Quota::kConcurrent:
      return "rate limit reached for key '" + key + "': " + limit + " requests at once; try again when one has ended";
    case Quota::kTokensPerDay:
      break;
  }
  return "key '" + key + "' has used its " + limit + " tokens of today (UTC); there are new ones in " + seconds;
}

}  // namespace consort::cli
