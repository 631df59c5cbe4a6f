#include "cli/house/controllers.hpp"

#include "cli/house/plan_model.hpp"
#include "cli/house/worker.hpp"
#include "cluster/roles.hpp"

namespace consort::cli {

using cluster::Role;

cluster::CoordinatorOptions coordinator_options(const cluster::ClusterConfig& config,
                                                const std::shared_ptr<const model::Checkpoint>& checkpoint,
                                                std::string log_path,
                                                std::optional<cluster::NumericPlan> numeric_plan) {
  cluster::CoordinatorOptions options;
  options.config = config;
  options.model = plan_model_of(checkpoint);
  options.manifest = manifest_of(*checkpoint);
  options.build = build_name();
  options.log_path = std::move(log_path);
  options.numeric_plan = std::move(numeric_plan);
  return options;
}

CoordinatorProcess::CoordinatorProcess(runtime::EventLoop& loop, cluster::CoordinatorOptions options)
    : post_office_(loop) {
  loop.spawn_root(static_cast<std::uint16_t>(Role::kCoordinator), 0, [this, options = std::move(options)] {
    return std::make_unique<cluster::Coordinator>(post_office_, options);
  });
}

std::vector<cluster::NodeAgentOptions::Child> children_of(const ProcessList& processes, const ProcessPlace& agent,
                                                          const ProcessArguments& arguments) {
  std::vector<cluster::NodeAgentOptions::Child> children;
  const auto add = [&](const ProcessPlace& place) {
    if (place.host == agent.host) children.push_back({place.node, {place.name, arguments(place)}});
  };
  add(processes.coordinator);
  for (const auto& worker : processes.workers) add(worker);
  if (processes.gateway) add(*processes.gateway);
  return children;
}

AgentProcess::AgentProcess(runtime::EventLoop& loop, cluster::NodeAgentOptions options) : post_office_(loop) {
  loop.spawn_root(static_cast<std::uint16_t>(Role::kNodeAgent), 0, [this, options = std::move(options)] {
    return std::make_unique<cluster::NodeAgent>(post_office_, options);
  });
}

}  // namespace consort::cli
