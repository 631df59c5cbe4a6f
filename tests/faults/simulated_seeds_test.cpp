// Random faults, links included, by seed; each seed twice.
#include <chrono>
#include <cstdlib>
#include <sstream>
#include <utility>

#include "support/sim_scenario.hpp"
#include "support/test.hpp"
#include "sweep.hpp"

namespace consort::tests {
namespace {

#ifdef CONSORT_SANITIZED
constexpr std::uint64_t kStride = 7;
#else
constexpr std::uint64_t kStride = 1;
#endif
constexpr std::uint64_t kSeeds = 500;

// By hand, other seeds than the default: CONSORT_SEEDS="501 3000", first and last.
std::pair<std::uint64_t, std::uint64_t> first_and_last() {
  std::pair<std::uint64_t, std::uint64_t> seeds{1, kSeeds};
  if (const char* asked = std::getenv("CONSORT_SEEDS")) {
    std::istringstream words(asked);
    words >> seeds.first >> seeds.second;
    REQUIRE_MESSAGE(!words.fail(), "CONSORT_SEEDS: first and last, as in \"501 3000\"");
  }
  return seeds;
}

cli::Scenario seeds_scenario() {
  auto options = small_cluster("seeds", "replicas = 2\ncolumns = 2");
  auto model = cli::SimModel::load(options.config.model).value();
  return cli::Scenario(std::move(options), std::move(model), {greedy_request(60, 3, 8), greedy_request(10, 4, 8)});
}

// Every seed gives the same tokens: what the first gives without faults holds for all.
cli::ScenarioRun without_faults(const cli::Scenario& scenario) {
  cli::ScenarioRun run = scenario.run(1, {}, nullptr);
  for (const auto& violation : run.violations) FAIL_CHECK(scenario.report(1, {}, violation));
  REQUIRE(run.violations.empty());
  return run;
}

}  // namespace

TEST_CASE("one to three random faults change no token, and a seed repeats itself") {
  const auto begin = std::chrono::steady_clock::now();
  const cli::Scenario scenario = seeds_scenario();
  const cli::ScenarioRun fault_free = without_faults(scenario);
  std::vector<SweepRun> runs;
  const auto [first, last] = first_and_last();
  for (std::uint64_t seed = first; seed <= last; seed += kStride) {
    runs.push_back({seed, cli::FaultPlan::random(seed, scenario.processes(), fault_free.events)});
  }
  const SweepResult result = sweep(
      scenario, runs, [&](std::uint64_t) -> const cli::ScenarioRun& { return fault_free; }, true);
  for (const auto& report : result.reports) FAIL_CHECK(report);
  CHECK(result.failed_runs == 0);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("%zu seeds, each twice: %zu failed, %zu requests ended in words, %lu events, %.1f s\n", result.runs,
              result.failed_runs, result.ended_in_words, result.events, seconds);
}

// A node that came back was asked before it had a wire to its asker, and its answer got lost: the request waited for
// the deadline of the ask though all nodes were there.
TEST_CASE("a node that comes back while its replica is stopped lets no request wait") {
  const cli::Scenario scenario = seeds_scenario();
  const cli::ScenarioRun fault_free = without_faults(scenario);
  for (const std::uint64_t seed : {115u, 116u, 117u, 118u}) {
    const auto plan = cli::FaultPlan::parse("pause attic 2270ms at 364; slow attic 1079ms at 70; crash garage at 636",
                                            scenario.processes())
                          .value();
    const cli::ScenarioRun run = scenario.run(seed, plan, &fault_free);
    for (const auto& violation : run.violations) FAIL_CHECK(scenario.report(seed, plan, violation));
  }
}

}  // namespace consort::tests
