// Coordinator: who is in the cluster, in which life, holding what. Decides, logs, then tells. The cluster serves
// without it. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "cluster/messages.hpp"
#include "cluster/node_config.hpp"
#include "cluster/planner.hpp"
#include "cluster/post_office.hpp"
#include "runtime/actor.hpp"

namespace consort::cluster {

struct CoordinatorOptions {
  ClusterConfig config;
  PlanModel model;
  std::string manifest;                     // of the model's files, as every worker computes it
  std::string build;                        // of this program
  std::string log_path;                     // decisions, through Env::disk
  std::optional<NumericPlan> numeric_plan;  // wanted by the operator; refused where the log holds another one
};

// Lives alone in its process (spawn_root as Role::kCoordinator, index 0). Takes its incarnation from the log and gives
// it to the loop. Needs env.control and env.disk.
class Coordinator final : public runtime::ActorOf<Coordinator, CoordinatorProtocol> {
 public:
  Coordinator(PostOffice& post_office, CoordinatorOptions options);
  ~Coordinator() override;

  void on(Join message, runtime::ReplyTo<Joined> reply, const runtime::Context& context);
  void on(ReportProfile message, runtime::ReplyTo<ProfileTaken> reply, const runtime::Context& context);
  void on(PartsReady message, runtime::ReplyTo<PartsAccepted> reply, const runtime::Context& context);
  void on(Heartbeat message, const runtime::Context& context);
  void on(AgentHello message, runtime::ReplyTo<AgentWelcome> reply, const runtime::Context& context);
  void on(ChildExited message, const runtime::Context& context);
  void on(LeaveCluster message, runtime::ReplyTo<LeftCluster> reply);
  void on(ClusterStatus message, runtime::ReplyTo<ClusterStatusReport> reply);

 private:
  void on_start() override;

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace consort::cluster
