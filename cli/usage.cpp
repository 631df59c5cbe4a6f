// `consort usage`: what was used, per day and API key, whether the cluster is up or down.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "cli/commands.hpp"
#include "cli/house/cluster_state.hpp"
#include "cli/metering/usage_log.hpp"
#include "cli/metering/usage_table.hpp"

namespace consort::cli {

int run_usage(const UsageOptions& options) {
  const auto state = ClusterState::of_file(options.cluster_file);
  if (!state.ok()) return wrong_use(state.error().text);
  UsageQuestion question;
  const auto read = [](const std::string& text, std::optional<UtcDay>& day) {
    if (text.empty()) return true;
    day = parse_day(text);
    return day.has_value();
  };
  if (!read(options.from, question.from)) return wrong_use("--from " + options.from + ": a day is like 2026-01-31");
  if (!read(options.to, question.to)) return wrong_use("--to " + options.to + ": a day is like 2026-01-31");
  if (!options.key.empty()) question.key = options.key;
  question.price = state->config.price;
  question.cost_per_hour = cluster::machine_cost_per_hour(state->config);
  const auto scan = read_usage(state->folder.usage_file());
  if (!scan.ok()) return job_failed(scan.error().text);
  if (scan->damaged_lines > 0) {
    std::fprintf(stderr, "consort: %s: %zu lines are damaged and do not count\n", state->folder.usage_file().c_str(),
                 scan->damaged_lines);
  }
  const std::string text = options.csv ? usage_csv(scan->sums, question) : usage_table(scan->sums, question);
  std::fputs(text.c_str(), stdout);
  return kExitOk;
}

}  // namespace consort::cli
