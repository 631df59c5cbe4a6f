// Numbers with units, as people write them in node configs.
#include <array>
#include <charconv>
#include <cmath>
#include <string>

#include "cluster/node_config.hpp"

namespace consort::cluster {
namespace {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;

struct Unit {
  std::string_view name;
  double factor;
};

// "1.5 GiB" -> the number times its unit, rounded; the largest result stays an exact integer of a double.
Outcome<std::uint64_t> parse_quantity(std::string_view text, std::span<const Unit> units, std::string_view example) {
  const auto refuse = [&](std::string_view why) {
    return failure(ErrorKind::kInvalid,
                   "\"" + std::string(text) + "\" " + std::string(why) + "; write it like " + std::string(example));
  };
  double number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return refuse("does not start with a number");
  std::string_view unit(rest, static_cast<std::size_t>(text.data() + text.size() - rest));
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  for (const auto& known : units) {
    if (unit != known.name) continue;
    const double value = number * known.factor;
    constexpr double kLargest = 9007199254740992.0;  // 2^53
    if (!(value >= 0) || value > kLargest) return refuse("is out of range");
    return static_cast<std::uint64_t>(std::llround(value));
  }
  return refuse(unit.empty() ? "has no unit" : "has a unit that is not known");
}

}  // namespace

Outcome<std::uint64_t> parse_bytes(std::string_view text) {
  static constexpr std::array<Unit, 10> kUnits{{{"", 1},
                                                {"B", 1},
                                                {"kB", 1e3},
                                                {"MB", 1e6},
                                                {"GB", 1e9},
                                                {"TB", 1e12},
                                                {"KiB", 1024.0},
                                                {"MiB", 1048576.0},
                                                {"GiB", 1073741824.0},
                                                {"TiB", 1099511627776.0}}};
  return parse_quantity(text, kUnits, "\"2GiB\" or \"512MiB\"");
}

Outcome<runtime::Duration> parse_duration(std::string_view text) {
  static constexpr std::array<Unit, 5> kUnits{{{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"min", 6e10}}};
  CONSORT_TRY(const std::uint64_t nanoseconds, parse_quantity(text, kUnits, "\"500us\" or \"2s\""));
  return runtime::Duration(static_cast<std::int64_t>(nanoseconds));
}

Outcome<std::uint64_t> parse_rate(std::string_view text) {
  static constexpr std::array<Unit, 6> kUnits{
      {{"kbit", 1e3 / 8}, {"Mbit", 1e6 / 8}, {"Gbit", 1e9 / 8}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}}};
  return parse_quantity(text, kUnits, "\"1Gbit\" or \"100MB\" (per second)");
}

}  // namespace consort::cluster
