// Usage as people and spreadsheets read it. Pure. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "cli/metering/usage.hpp"
#include "cluster/price.hpp"

namespace consort::cli {

struct UsageQuestion {
  std::optional<UtcDay> from, to;  // both in
  std::optional<std::string> key;
  cluster::PriceList price;
  std::optional<cluster::Money> cost_per_hour;  // of all machines
};

// A line per day and key, sums per key and in all; with prices the bill, with the machines' cost what a million tokens
// really cost.
std::string usage_table(const UsageSums& sums, const UsageQuestion& question);
// The lines per day and key alone, with a head; sums are the spreadsheet's.
std::string usage_csv(const UsageSums& sums, const UsageQuestion& question);

}  // namespace consort::cli
