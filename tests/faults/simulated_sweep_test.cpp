// A fault in every event of one prefill chunk and of one decode step, at every worker and the Coordinator.
#include <chrono>
#include <map>

#include "support/sim_scenario.hpp"
#include "support/test.hpp"
#include "sweep.hpp"

namespace consort::tests {
namespace {

using cli::FaultKind;

#ifdef CONSORT_SANITIZED
constexpr std::uint64_t kStride = 7;
#else
constexpr std::uint64_t kStride = 1;
#endif

// The longer prompt ends just below a page's end, so that its tokens cross into a second page.
const cli::Scenario& scenario() {
  static const cli::Scenario scenario = [] {
    auto options = small_cluster("sweep", "replicas = 2\ncolumns = \"never\"");
    auto model = cli::SimModel::load(options.config.model).value();
    return cli::Scenario(std::move(options), std::move(model), {greedy_request(60, 1, 8), greedy_request(10, 2, 8)});
  }();
  return scenario;
}

const cli::ScenarioRun& fault_free() {
  static const cli::ScenarioRun run = scenario().run(1, {}, nullptr);
  return run;
}

std::vector<std::uint64_t> indices() {
  const auto& tokens = fault_free().token_events;
  const std::uint64_t prefilled = std::max(tokens[0].at(0), tokens[1].at(0)) + 1;
  const std::uint64_t step_begin = std::max(tokens[0].at(5), tokens[1].at(5));
  const std::uint64_t step_end = std::max(tokens[0].at(6), tokens[1].at(6)) + 1;
  std::vector<std::uint64_t> all;
  for (std::uint64_t i = 0; i < prefilled; ++i) all.push_back(i);
  for (std::uint64_t i = std::max(prefilled, step_begin); i < step_end; ++i) all.push_back(i);
  std::vector<std::uint64_t> some;
  for (std::size_t i = 0; i < all.size(); i += kStride) some.push_back(all[i]);
  return some;
}

void check_sweep(FaultKind kind, runtime::Duration time) {
  const auto begin = std::chrono::steady_clock::now();
  for (const auto& violation : fault_free().violations) FAIL_CHECK(scenario().report(1, {}, violation));
  REQUIRE(fault_free().violations.empty());
  std::vector<SweepRun> runs;
  const auto events = indices();
  for (const std::uint64_t event : events) {
    for (const char* process : {"desk", "attic", "garage", "coordinator"}) {
      runs.push_back({1, {{{kind, process, "", time, event}}}});
    }
  }
  const SweepResult result = sweep(
      scenario(), runs, [](std::uint64_t) -> const cli::ScenarioRun& { return fault_free(); }, false);
  for (const auto& report : result.reports) FAIL_CHECK(report);
  CHECK(result.failed_runs == 0);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf(
      "%zu runs over %zu events of a fault-free run's %lu: %zu failed, %zu requests ended in words, %lu events, %.1f "
      "s\n",
      result.runs, events.size(), fault_free().events, result.failed_runs, result.ended_in_words, result.events,
      seconds);
}

}  // namespace

TEST_CASE("a crash in any event of a prefill chunk and a decode step changes no token") {
  check_sweep(FaultKind::kCrash, {});
}

TEST_CASE("a stop of one second in any event changes no token") {
  check_sweep(FaultKind::kPause, std::chrono::seconds(1));
}

TEST_CASE("a stop of five seconds in any event changes no token") {
  check_sweep(FaultKind::kPause, std::chrono::seconds(5));
}

}  // namespace consort::tests
