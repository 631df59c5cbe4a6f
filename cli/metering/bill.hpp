// Bill: usage to sums of money, exact. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cli/metering/usage.hpp"
#include "cluster/price.hpp"

namespace consort::cli {

// Dollars in steps of 1e-12: a token at a price of millionths of a dollar per million tokens.
struct ExactMoney {
  __extension__ typedef unsigned __int128 Steps;
  Steps steps = 0;
  ExactMoney& operator+=(const ExactMoney& other) { return steps += other.steps, *this; }
  auto operator<=>(const ExactMoney&) const = default;
};

// All decimals that are not zero, at least two.
std::string exact_text(const ExactMoney& money);
// So many decimals, half up.
std::string rounded_text(const ExactMoney& money, int decimals);

// What the usage costs whoever used it: prompt tokens that were not cached, cached ones, completion tokens.
ExactMoney bill_of(const Usage& usage, const cluster::PriceList& price);
// What machines cost that stood there for so long; rounded to a step, half up.
ExactMoney cost_of(cluster::Money per_hour, std::uint64_t milliseconds);
// Per million of these tokens; none: no tokens.
std::optional<ExactMoney> per_million(const ExactMoney& cost, std::uint64_t tokens);

}  // namespace consort::cli
