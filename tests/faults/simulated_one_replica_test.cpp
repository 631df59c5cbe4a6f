// One replica of each part: what a lost node held is waited for, and nothing else.
#include <cstdio>

#include "support/sim_scenario.hpp"
#include "support/test.hpp"
#include "sweep.hpp"

namespace consort::tests {
namespace {

using cli::FaultKind;

#ifdef CONSORT_SANITIZED
constexpr std::uint64_t kStride = 35;
#else
constexpr std::uint64_t kStride = 5;  // a run is as long as the node is away
#endif

}  // namespace

TEST_CASE("without a replica, requests wait for the node that was lost and complete when it is back") {
  auto options = small_cluster("one-replica", "replicas = 1\ncolumns = \"never\"");
  auto model = cli::SimModel::load(options.config.model).value();
  const cli::Scenario scenario(std::move(options), std::move(model),
                               {greedy_request(60, 1, 8), greedy_request(10, 2, 8)});
  const cli::ScenarioRun fault_free = scenario.run(1, {}, nullptr);
  for (const auto& violation : fault_free.violations) FAIL_CHECK(scenario.report(1, {}, violation));
  REQUIRE(fault_free.violations.empty());
  std::size_t runs = 0, waits = 0;
  for (std::uint64_t event = 0; event < fault_free.events; event += kStride) {
    const cli::FaultPlan plan{{{FaultKind::kCrash, "garage", "", {}, event}}};
    const cli::ScenarioRun run = scenario.run(1, plan, &fault_free);
    ++runs;
    for (const auto& violation : run.violations) FAIL_CHECK(scenario.report(1, plan, violation));
    for (const auto& generation : run.generations) {
      REQUIRE(generation.end.has_value());
      CHECK_MESSAGE(generation.end->reason == actors::EndReason::kLength, scenario.command(1, plan)
                                                                              << ": " << generation.end->text);
      waits += generation.end->waits > 0;
    }
  }
  std::printf("%zu crashes of a node without a replica: %zu requests waited for it\n", runs, waits);
  CHECK(waits > runs / 2);  // or the node was not needed, and nothing was shown
}

}  // namespace consort::tests
