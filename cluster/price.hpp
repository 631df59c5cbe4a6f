// What tokens and machines cost, in exact decimals. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "runtime/outcome.hpp"

namespace consort::cluster {

struct Money {
  std::int64_t micros = 0;  // millionths of a dollar
  auto operator<=>(const Money&) const = default;
};

inline constexpr int kMoneyDecimals = 6;
inline constexpr std::int64_t kMaxMicros = std::int64_t{1'000'000} * 1'000'000;  // of one price: a million dollars

// "0.55", "12": not negative, at most six decimals.
runtime::Outcome<Money> parse_money(std::string_view text);

// The section [price].
struct PriceList {
  bool bills = false;                          // the prices of tokens are given
  Money per_million_prompt;                    // tokens that were computed
  std::optional<Money> per_million_cached;     // prompt tokens that were found computed; none: as the others
  Money per_million_completion;                // thoughts and answers
  std::optional<Money> machine_cost_per_hour;  // of the whole cluster; none: the sum of its nodes'
};

}  // namespace consort::cluster
