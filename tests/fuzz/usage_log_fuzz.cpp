// Fuzzes the usage log: what is read of any bytes is written and read again as the same, and lines add up.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <string>
#include <string_view>

#include "cli/metering/usage_log.hpp"
#include "cli/metering/usage_table.hpp"
#include "runtime/check.hpp"

using namespace consort::cli;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto scan = scan_usage(text);
  if (!scan.ok()) return 0;
  CONSORT_CHECK(scan->torn_bytes <= size);
  const std::string lines = usage_lines(scan->sums);
  const auto again = scan_usage(lines);
  CONSORT_CHECK(again.ok() && again->sums == scan->sums && again->damaged_lines == 0 && again->torn_bytes == 0);
  const auto twice = scan_usage(lines + lines);
  UsageSums sum = scan->sums;
  sum.add(scan->sums);
  CONSORT_CHECK(twice.ok() && twice->sums == sum);
  UsageQuestion question;
  question.price.bills = true;
  question.price.per_million_prompt = {550'000};
  question.price.per_million_completion = {2'190'000};
  question.cost_per_hour = consort::cluster::Money{1};
  (void)usage_table(scan->sums, question);
  (void)usage_csv(scan->sums, question);
  return 0;
}
