#include "cli/metering/bill.hpp"

#include <algorithm>

namespace consort::cli {

namespace {

using Steps = ExactMoney::Steps;

constexpr int kDecimals = 12;
constexpr std::uint64_t kStepsPerMicro = 1'000'000;
constexpr std::uint64_t kMillisecondsPerHour = 3'600'000;
constexpr std::uint64_t kMillion = 1'000'000;

Steps half_up(Steps numerator, Steps denominator) { return (numerator + denominator / 2) / denominator; }

std::string digits(Steps number) {
  std::string text;
  do {
    text.push_back(static_cast<char>('0' + static_cast<int>(number % 10)));
    number /= 10;
  } while (number != 0);
  std::ranges::reverse(text);
  return text;
}

std::string with_point(Steps number, int decimals) {
  std::string text = digits(number);
  const auto places = static_cast<std::size_t>(decimals);
  if (text.size() <= places) text.insert(0, places + 1 - text.size(), '0');
  if (decimals > 0) text.insert(text.end() - decimals, '.');
  return text;
}

}  // namespace

std::string exact_text(const ExactMoney& money) {
  std::string text = with_point(money.steps, kDecimals);
  const std::size_t least = text.find('.') + 3;
  while (text.size() > least && text.back() == '0') text.pop_back();
  return text;
}

std::string rounded_text(const ExactMoney& money, int decimals) {
  Steps unit = 1;
  for (int i = decimals; i < kDecimals; ++i) unit *= 10;
  return with_point(half_up(money.steps, unit), decimals);
}

ExactMoney bill_of(const Usage& usage, const cluster::PriceList& price) {
  const auto micros = [](const cluster::Money& money) { return static_cast<Steps>(money.micros); };
  const std::uint64_t cached = std::min(usage.cached_tokens, usage.prompt_tokens);
  return {micros(price.per_million_prompt) * (usage.prompt_tokens - cached) +
          micros(price.per_million_cached.value_or(price.per_million_prompt)) * cached +
          micros(price.per_million_completion) * usage.completion_tokens};
}

ExactMoney cost_of(cluster::Money per_hour, std::uint64_t milliseconds) {
  return {half_up(static_cast<Steps>(per_hour.micros) * kStepsPerMicro * milliseconds, kMillisecondsPerHour)};
}

std::optional<ExactMoney> per_million(const ExactMoney& cost, std::uint64_t tokens) {
  if (tokens == 0) return std::nullopt;
  return ExactMoney{half_up(cost.steps * kMillion, tokens)};
}

}  // namespace consort::cli
