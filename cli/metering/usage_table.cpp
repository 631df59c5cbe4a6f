#include "cli/metering/usage_table.hpp"

#include <algorithm>
#include <cstdio>
#include <vector>

#include "cli/metering/bill.hpp"

namespace consort::cli {

namespace {

constexpr int kTableDecimals = 6;

bool is_in(UtcDay day, const UsageQuestion& question) {
  return (!question.from || day >= *question.from) && (!question.to || day <= *question.to);
}

std::string shown(const std::string& key) { return key == kNoKey ? "(no key)" : key; }

std::string seconds_text(std::uint64_t milliseconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%llu.%03llu", static_cast<unsigned long long>(milliseconds / 1000),
                static_cast<unsigned long long>(milliseconds % 1000));
  return text;
}

// The columns after day and key.
std::vector<std::string> numbers_of(const Usage& usage) {
  std::vector<std::string> numbers;
  for (const std::uint64_t number : {usage.requests, usage.failed, usage.prompt_tokens, usage.cached_tokens,
                                     usage.completion_tokens, usage.reasoning_tokens}) {
    numbers.push_back(std::to_string(number));
  }
  numbers.push_back(seconds_text(usage.milliseconds));
  return numbers;
}

constexpr const char* kHeads[] = {"day",    "key",        "requests",  "failed", "prompt",
                                  "cached", "completion", "reasoning", "seconds"};

std::string aligned(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string space(widths[i] - row[i].size(), ' ');
      if (i > 0) line += "  ";
      (line += i < 2 ? row[i] : space) += i < 2 ? space : row[i];
    }
    while (line.ends_with(' ')) line.pop_back();
    text += line + "\n";
  }
  return text;
}

std::string machine_lines(std::uint64_t up_milliseconds, std::uint64_t tokens, const ExactMoney* billed,
                          cluster::Money per_hour) {
  const ExactMoney cost = cost_of(per_hour, up_milliseconds);
  std::string text = "\nmachines: " + seconds_text(up_milliseconds) + " s up at $" +
                     exact_text({ExactMoney::Steps(per_hour.micros) * 1'000'000}) + " an hour: $" +
                     rounded_text(cost, kTableDecimals) + "\n";
  const auto each = per_million(cost, tokens);
  if (!each) return text + "no tokens were made for it\n";
  text += "a million tokens, of prompts and answers of all keys, cost $" + rounded_text(*each, 2);
  if (billed != nullptr) text += " and were billed at $" + rounded_text(*per_million(*billed, tokens), 2);
  return text + "\n";
}

}  // namespace

std::string usage_table(const UsageSums& sums, const UsageQuestion& question) {
  const bool bills = question.price.bills;
  std::vector<std::vector<std::string>> rows{{std::begin(kHeads), std::end(kHeads)}};
  if (bills) rows[0].push_back("bill $");
  const auto add = [&](const std::string& day, const std::string& key, const Usage& usage, const ExactMoney& bill) {
    std::vector<std::string> row{day, key};
    for (auto& number : numbers_of(usage)) row.push_back(std::move(number));
    if (bills) row.push_back(rounded_text(bill, kTableDecimals));
    rows.push_back(std::move(row));
  };
  struct Sum {
    Usage usage;
    ExactMoney bill;
  };
  std::map<std::string, Sum> by_key;
  Sum all;         // that the question is about
  Sum all_of_all;  // of every key
  for (const auto& [at, usage] : sums.used) {
    if (!is_in(at.first, question)) continue;
    const ExactMoney bill = bill_of(usage, question.price);
    all_of_all.usage += usage;
    all_of_all.bill += bill;
    if (question.key && at.second != *question.key) continue;
    add(day_text(at.first), shown(at.second), usage, bill);
    for (Sum* sum : {&by_key[at.second], &all}) {
      sum->usage += usage;
      sum->bill += bill;
    }
  }
  if (rows.size() == 1) return "nothing was used\n";
  if (rows.size() > 2) {
    for (const auto& [key, sum] : by_key) add("all days", shown(key), sum.usage, sum.bill);
    if (by_key.size() > 1) add("all days", "all keys", all.usage, all.bill);
  }
  std::string text = aligned(rows);
  if (!question.cost_per_hour) return text;
  std::uint64_t up = 0;
  for (const auto& [day, milliseconds] : sums.up_milliseconds) up += is_in(day, question) ? milliseconds : 0;
  const std::uint64_t tokens = all_of_all.usage.prompt_tokens + all_of_all.usage.completion_tokens;
  return text + machine_lines(up, tokens, bills ? &all_of_all.bill : nullptr, *question.cost_per_hour);
}

std::string usage_csv(const UsageSums& sums, const UsageQuestion& question) {
  std::string text;
  for (const char* head : kHeads) {
    if (!text.empty()) text += ",";
    text += head;
  }
  text += question.price.bills ? ",bill_usd\n" : "\n";
  for (const auto& [at, usage] : sums.used) {
    if (!is_in(at.first, question) || (question.key && at.second != *question.key)) continue;
    text += day_text(at.first) + ",";
    if (at.second != kNoKey) text += at.second;
    for (const auto& number : numbers_of(usage)) text += "," + number;
    if (question.price.bills) text += "," + exact_text(bill_of(usage, question.price));
    text += "\n";
  }
  return text;
}

}  // namespace consort::cli
