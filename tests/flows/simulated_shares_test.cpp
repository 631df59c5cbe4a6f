// What virtual time shows: shares follow measured speed, whatever makes a node slow.
#include <cstdio>

#include "support/sim_scenario.hpp"
#include "support/test.hpp"

namespace consort::tests {
TEST_CASE("a worker that is slowed by other means gets a smaller share") {
  const auto bytes_of_garage = [](double slowness) {
    auto options = small_cluster("shares", "replicas = 1\ncolumns = \"never\"");
    auto model = cli::SimModel::load(options.config.model).value();
    cli::SimCluster cluster(std::move(options), std::move(model));
    // Before it is probed, and not by `slowdown`: the planner can know it from the profile alone.
    cluster.world().add_observer([&](const runtime::SimEvent& event) {
      if (event.kind != runtime::SimEventKind::kStart) return;
      auto& process = cluster.world().process(event.process);
      if (process.name() == "garage") process.set_slowness(slowness);
    });
    const auto up = cluster.bring_up();
    REQUIRE_MESSAGE(up.ok(), (up.ok() ? "" : up.error().text));
    const auto view = cluster.view_of("desk");
    return std::pair(view->find(runtime::NodeId{3})->part_bytes, view->find(runtime::NodeId{2})->part_bytes);
  };
  const auto [even, even_other] = bytes_of_garage(1);
  const auto [slow, slow_other] = bytes_of_garage(4);
  std::printf("garage holds %lu bytes, four times slower %lu; attic %lu and %lu\n", even, slow, even_other, slow_other);
  CHECK(slow < even / 2);
  CHECK(slow > 0);
  CHECK(slow_other > even_other);
}

}  // namespace consort::tests
