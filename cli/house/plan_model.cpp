#include "cli/house/plan_model.hpp"

#include <cstdio>

#include "actors/experts/part_messages.hpp"
#include "model/part_store.hpp"

namespace consort::cli {

cluster::PlanModel plan_model_of(std::shared_ptr<const model::Checkpoint> checkpoint) {
  const model::ModelConfig& config = checkpoint->config();
  cluster::PlanModel plan;
  for (std::int64_t layer = config.first_k_dense_replace; layer < config.num_hidden_layers; ++layer) {
    plan.expert_layers.push_back(static_cast<std::uint32_t>(layer));
  }
  plan.n_routed_experts = static_cast<std::uint32_t>(config.n_routed_experts);
  plan.num_experts_per_tok = static_cast<std::uint32_t>(config.num_experts_per_tok);
  plan.moe_intermediate_size = static_cast<std::uint32_t>(config.moe_intermediate_size);
  plan.column_unit = static_cast<std::uint32_t>(model::cut_unit(config));
  plan.hidden_size = static_cast<std::uint32_t>(config.hidden_size);
  plan.part_bytes = [checkpoint = std::move(checkpoint)](const cluster::PartId& part) {
    return model::part_bytes(*checkpoint, actors::part_key(part));
  };
  return plan;
}

cluster::NumericPlan cluster_plan(const model::NumericPlan& plan) {
  cluster::NumericPlan out;
  for (const auto& range : plan.columns) out.cut.push_back({range.first, range.count});
  out.combine = plan.combine;
  out.wire = plan.wire;
  out.numeric_class = plan.numeric_class;
  return out;
}

std::string manifest_of(const model::Checkpoint& checkpoint) {
  char text[17];
  std::snprintf(text, sizeof text, "%016lx", checkpoint.manifest_hash());
  return text;
}

}  // namespace consort::cli
