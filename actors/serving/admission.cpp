#include "actors/serving/admission.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace consort::actors {

std::optional<Refused> refuse(const QueueLoad& load, const QueueLimits& limits, std::uint64_t cost_tokens) {
  const bool too_many = load.requests >= limits.requests;
  const bool too_long = load.requests > 0 && load.tokens + cost_tokens > limits.tokens;
  if (!too_many && !too_long) return std::nullopt;
  // What must be done first: one waiting request, or as many tokens as this one is too long.
  const double one = load.requests == 0 ? 0.0 : static_cast<double>(load.tokens) / static_cast<double>(load.requests);
  const double over = too_long ? static_cast<double>(load.tokens + cost_tokens - limits.tokens) : 0.0;
  const double seconds = load.tokens_per_second > 0 ? std::max(one, over) / load.tokens_per_second : 0.0;
  const auto limit = std::chrono::duration<double>(kMostComeAgain).count();
  const auto wait = std::chrono::seconds(static_cast<std::int64_t>(std::ceil(std::min(seconds, limit))));
  const std::string text = "the queue is full: " + std::to_string(load.requests) + " requests of " +
                           std::to_string(load.tokens) + " tokens wait already";
  return Refused{text, std::clamp<runtime::Duration>(wait, kLeastComeAgain, kMostComeAgain)};
}

}  // namespace consort::actors
