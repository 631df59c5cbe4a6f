// What the planner must know of a model, from its checkpoint's headers.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "cluster/planner.hpp"
#include "model/checkpoint.hpp"
#include "model/part.hpp"

namespace consort::cli {

cluster::PlanModel plan_model_of(std::shared_ptr<const model::Checkpoint> checkpoint);
cluster::NumericPlan cluster_plan(const model::NumericPlan& plan);
// What workers and Coordinator compare at join: two equal manifests may serve one cluster.
std::string manifest_of(const model::Checkpoint& checkpoint);

}  // namespace consort::cli
