#include "cli/http/prometheus.hpp"

#include <cstdio>

namespace consort::cli {

namespace {

// Buckets below 1 ms and above 275 s are left out: a token takes longer, a request ends sooner.
constexpr std::size_t kFirstBucket = 20;

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') out += '\\';
    out += c;
  }
  return out;
}

std::string seconds(double nanoseconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", nanoseconds / 1e9);
  return text;
}

}  // namespace

std::string prometheus_text(const runtime::MetricsSnapshot& snapshot, std::string_view model) {
  const std::string label = "model_name=\"" + escaped(model) + "\"";
  std::string text;
  std::string last_family;
  const auto type = [&](std::string_view family, std::string_view kind) {
    if (family == last_family) return;
    last_family = family;
    text += "# TYPE " + last_family + " ";
    (text += kind) += "\n";
  };
  for (const auto& number : snapshot.numbers) {
    const std::string_view name = number.name;
    const std::size_t brace = name.find('{');
    const std::string family(name.substr(0, brace));
    type(family, family.ends_with("_total") ? "counter" : "gauge");
    const std::string own =
        brace == std::string_view::npos ? "" : "," + std::string(name.substr(brace + 1, name.size() - brace - 2));
    text += family + "{" + label + own + "} " + std::to_string(number.value) + "\n";
  }
  for (const auto& spread : snapshot.spreads) {
    type(spread.name, "histogram");
    const auto& buckets = spread.histogram.buckets();
    std::uint64_t below = 0;
    for (std::size_t i = 0; i + 1 < buckets.size(); ++i) {
      below += buckets[i];
      if (i < kFirstBucket) continue;
      text += spread.name + "_bucket{" + label + ",le=\"" + seconds(static_cast<double>(std::uint64_t{1} << i)) +
              "\"} " + std::to_string(below) + "\n";
    }
    const std::string count = std::to_string(spread.histogram.count());
    text += spread.name + "_bucket{" + label + ",le=\"+Inf\"} " + count + "\n";
    text += spread.name + "_sum{" + label + "} " + seconds(static_cast<double>(spread.histogram.sum())) + "\n";
    text += spread.name + "_count{" + label + "} " + count + "\n";
  }
  return text;
}

}  // namespace consort::cli
