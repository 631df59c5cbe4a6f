// SimCluster: a cluster file in virtual time: the same processes that `up` starts, on a World, and clients beside them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "actors/serving/generation_client.hpp"
#include "cli/house/process_list.hpp"
#include "cli/house/worker.hpp"
#include "cluster/node_config.hpp"
#include "cluster/decision_log.hpp"
#include "cluster/view.hpp"
#include "model/checkpoint.hpp"
#include "model/trunk.hpp"
#include "runtime/outcome.hpp"
#include "runtime/simulated/world.hpp"

namespace consort::cli {

// What all lives of all nodes may share, since nobody writes to it: many worlds are run on one model.
struct SimModel {
  std::shared_ptr<const model::Checkpoint> checkpoint;
  std::shared_ptr<const model::Trunk> trunk;
  static runtime::Outcome<SimModel> load(const std::string& directory);
};

struct SimClusterOptions {
  cluster::ClusterConfig config;  // slowdown and shape play slow nodes and links, as on real processes
  std::uint64_t seed = 1;
  runtime::WorldModel world;
  std::optional<cluster::NumericPlan> numeric_plan;
  bool restart = true;
  int micro_batches = 2;
  std::uint32_t min_rows_to_split = 4;  // far fewer than on real nodes, so that short prompts run in two micro-batches
  actors::PassObserver* pass_observer = nullptr;  // of every worker; outlives the cluster
};

// What a client saw of one request.
struct SimGeneration {
  std::vector<actors::GeneratedToken> tokens;
  std::optional<actors::GenerationEnded> end;
  int end_count = 0;                  // must become 1
  std::uint32_t batcher_process = 0;  // of the world's: the Batcher that was asked
};

class SimCluster {
 public:
  // Agents are started; nothing has happened yet.
  SimCluster(SimClusterOptions options, SimModel model);
  ~SimCluster();

  runtime::World& world() { return *world_; }
  const cluster::ClusterConfig& config() const { return options_.config; }
  const ProcessList& processes() const { return processes_; }

  // Until every configured worker is kReady in the Batcher's node's view and a token has crossed all of them.
  runtime::Status bring_up(runtime::World::Limits limits = {});
  // Starts a request from the client's process; the batcher must be there. Returns its number.
  std::size_t start(actors::GenerationRequest request);
  const SimGeneration& generation(std::size_t number) const { return *generations_.at(number); }
  std::size_t generation_count() const { return generations_.size(); }
  bool all_ended() const;
  runtime::Status run_to_end(runtime::World::Limits limits = {});

  // The living process of a name ("garage", "coordinator", "agent-0"), or null.
  runtime::SimProcess* process(std::string_view name) { return world_->find(name); }
  // The worker that lives in it now, or null.
  Worker* worker(std::string_view name);
  // As a worker sees the cluster; null while it has no view or does not live.
  cluster::ClusterViewPtr view_of(std::string_view name);
  bool all_ready();
  // What a Coordinator that starts now would find decided.
  runtime::Outcome<cluster::DecidedState> decided_on_disk();
  // All processes live, run, and agree on who is which life; nothing is owed to anybody. Beats go on, of course.
  bool is_restored();
  // What keeps it from that, in words.
  std::string unrest();

 private:
  runtime::SimBoot worker_boot(const ProcessPlace& place);
  runtime::SimBoot coordinator_boot();
  runtime::SimBoot agent_boot(const ProcessPlace& place);
  void add_client();
  void shape_links();

  SimClusterOptions options_;
  SimModel model_;
  ProcessList processes_;
  std::unique_ptr<runtime::World> world_;
  std::map<std::string, std::weak_ptr<Worker>, std::less<>> workers_;
  std::vector<std::shared_ptr<SimGeneration>> generations_;
  struct ClientHouse;
  std::weak_ptr<ClientHouse> client_;
  bool is_warm_ = false;
};

}  // namespace consort::cli
