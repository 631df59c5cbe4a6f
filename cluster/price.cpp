#include "cluster/price.hpp"

#include <string>

namespace consort::cluster {

runtime::Outcome<Money> parse_money(std::string_view text) {
  const auto wrong = [&] {
    return runtime::failure(
        runtime::ErrorKind::kInvalid,
        "\"" + std::string(text.substr(0, 32)) + "\" is no sum in dollars from 0 to 1000000 with at most 6 decimals");
  };
  std::int64_t micros = 0;
  int decimals = -1;  // none yet
  if (text.empty() || text.front() == '.' || text.back() == '.') return wrong();
  for (const char c : text) {
    if (c == '.') {
      if (decimals >= 0) return wrong();
      decimals = 0;
      continue;
    }
    if (c < '0' || c > '9' || decimals >= kMoneyDecimals || micros > kMaxMicros) return wrong();
    if (decimals >= 0) ++decimals;
    micros = micros * 10 + (c - '0');
  }
  for (int i = decimals < 0 ? 0 : decimals; i < kMoneyDecimals; ++i) {
    if (micros > kMaxMicros) return wrong();
    micros *= 10;
  }
  if (micros > kMaxMicros) return wrong();
  return Money{micros};
}

}  // namespace consort::cluster
