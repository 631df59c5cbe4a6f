#include "cli/simulate/scenario.hpp"

#include <utility>

namespace consort::cli {

namespace {

// Restarts back off by 0.2 s and more, a stopped process is buried after 2 s, three faults may follow each other.
// An ask whose answer was lost lives until its deadline, the 60 s of a request; then restarts may be under way.
constexpr runtime::World::Limits kRestoreLimits{.time = std::chrono::seconds(120)};
constexpr runtime::World::Limits kEndLimits{.time = std::chrono::seconds(90)};
// To look whether all is at rest costs more than an event.
constexpr std::uint64_t kLookEvery = 16;

runtime::Status wait_until_restored(SimCluster& cluster) {
  std::uint64_t looks = 0;
  auto status = cluster.world().run_until([&] { return looks++ % kLookEvery == 0 && cluster.is_restored(); },
                                          "the cluster to be whole and at rest", kRestoreLimits);
  if (status.ok()) return status;
  return runtime::failure(status.error().kind, cluster.unrest() + "; " + status.error().text);
}

}  // namespace

Scenario::Scenario(SimClusterOptions options, SimModel model, std::vector<actors::GenerationRequest> requests)
    : options_(std::move(options)),
      model_(std::move(model)),
      requests_(std::move(requests)),
      processes_(ProcessList::of(options_.config).value()),
      reference_(std::make_shared<PartReference>(model_.checkpoint)) {}

ScenarioRun Scenario::run(std::uint64_t seed, const FaultPlan& plan, const ScenarioRun* fault_free,
                          const Watch& watch) const {
  ScenarioRun result;
  Checkers checkers(reference_);
  SimClusterOptions options = options_;
  options.seed = seed;
  options.pass_observer = &checkers;
  SimCluster cluster(std::move(options), model_);
  runtime::World& world = cluster.world();
  checkers.attach(cluster, fault_free == nullptr ? nullptr : &fault_free->tokens);
  if (watch) watch(cluster);

  const auto must = [&](const char* checker, const runtime::Status& status) {
    if (!status.ok()) checkers.fail(checker, status.error().text);
    return status.ok();
  };
  const auto live = [&] {
    if (!must("ready", cluster.bring_up())) return;
    result.first_event = world.event_count();
    plan.lay(cluster);
    for (const auto& request : requests_) cluster.start(request);
    result.token_events.resize(requests_.size());
    world.add_observer([&, first = result.first_event](const runtime::SimEvent& event) {
      for (std::size_t g = 0; g < requests_.size(); ++g) {
        auto& events = result.token_events[g];
        while (events.size() < cluster.generation(g).tokens.size()) events.push_back(event.index - first);
      }
    });
    if (!must("ends", cluster.run_to_end(kEndLimits))) return;
    result.events = world.event_count() - result.first_event;
    if (!must("rest", wait_until_restored(cluster))) return;
    // What has come back must serve as before.
    cluster.start(requests_.front());
    if (!must("ends", cluster.run_to_end(kEndLimits))) return;
    if (!must("rest", wait_until_restored(cluster))) return;
    checkers.look_at_rest();
  };
  live();
  checkers.look_at_ends();
  result.violations = checkers.violations();
  for (std::size_t g = 0; g < cluster.generation_count(); ++g) {
    result.generations.push_back(cluster.generation(g));
    result.tokens.push_back(cluster.generation(g).tokens);
  }
  result.trace_hash = world.trace_hash();
  result.all_events = world.event_count();
  return result;
}

std::string Scenario::command(std::uint64_t seed, const FaultPlan& plan) const {
  std::string ids;
  for (const auto& request : requests_) {
    if (!ids.empty()) ids += ";";
    for (std::size_t i = 0; i < request.prompt.size(); ++i)
      ids += (i == 0 ? "" : ",") + std::to_string(request.prompt[i]);
  }
  return "consort simulate " + options_.config.path + " --seed " + std::to_string(seed) + " --faults '" +
         plan.describe() + "' --ids '" + ids + "' --max-new-tokens " + std::to_string(requests_.front().max_new_tokens);
}

std::string Scenario::report(std::uint64_t seed, const FaultPlan& plan, const Violation& violation) const {
  return "checker \"" + violation.checker + "\": " + violation.text + "\n  seed " + std::to_string(seed) + ", event " +
         std::to_string(violation.event) + "; to see it: " + command(seed, plan);
}

}  // namespace consort::cli
