// Worker: the actors of one [[node]], built by constructor on any Env: a real process', a test's, the simulator's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "actors/experts/expert_group.hpp"
#include "actors/experts/pass_observer.hpp"
#include "actors/experts/router.hpp"
#include "actors/serving/batcher.hpp"
#include "actors/serving/decoder.hpp"
#include "cluster/membership.hpp"
#include "cluster/node_config.hpp"
#include "cluster/post_office.hpp"
#include "model/checkpoint.hpp"
#include "model/kv_pages.hpp"
#include "model/part_store.hpp"
#include "model/trunk.hpp"
#include "runtime/buffer.hpp"
#include "runtime/event_loop.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

struct WorkerOptions {
  cluster::ClusterConfig config;
  std::size_t node_index = 0;                // into config.nodes
  runtime::LinkAddress coordinator_address;  // empty where the link knows
  runtime::NodeId agent;
  runtime::LinkAddress agent_address;
  std::function<void(runtime::Incarnation)> on_joined;  // links learn their incarnation here
  int micro_batches = 2;
  std::uint32_t min_rows_to_split = 32;  // rows of one sequence that are worth two micro-batches
  // A simulation's: passes are shown to it, and the device's time is computed, not spent.
  actors::PassObserver* pass_observer = nullptr;
  bool is_timed_by_model = false;
};

// Weights, pages and buffers of a worker. Outlives the actors, so that their restart takes milliseconds.
struct WorkerMemory {
  std::shared_ptr<const model::Checkpoint> checkpoint;
  std::shared_ptr<const model::Trunk> trunk;  // null without the trunk role
  std::shared_ptr<model::KvPages> pages;      // null without the trunk role
  std::shared_ptr<model::PartStore> parts = std::make_shared<model::PartStore>();
  std::uint64_t limit_bytes = 0;  // the node's `memory`
  std::uint64_t trunk_bytes = 0;  // trunk weights and KV pages
  runtime::BufferPool buffers;

  explicit WorkerMemory(std::size_t buffer_limit) : buffers(buffer_limit) {}
};

// Opens the checkpoint, reads the trunk where the node has that role, and sizes the KV pages within the node's memory.
// Blocks while it reads: before the loop runs.
runtime::Outcome<std::shared_ptr<WorkerMemory>> load_worker_memory(const cluster::ClusterConfig& config,
                                                                   std::size_t node_index,
                                                                   const model::Progress& progress = {});
// The same on a checkpoint and trunk that are loaded already and shared (the simulator's nodes); `trunk` may be null.
runtime::Outcome<std::shared_ptr<WorkerMemory>> make_worker_memory(const cluster::ClusterConfig& config,
                                                                   std::size_t node_index,
                                                                   std::shared_ptr<const model::Checkpoint> checkpoint,
                                                                   std::shared_ptr<const model::Trunk> trunk,
                                                                   const model::Progress& progress = {});

class Worker {
 public:
  // The loop's Env must be set. `memory` must outlive the loop's actors.
  Worker(runtime::EventLoop& loop, WorkerOptions options, std::shared_ptr<WorkerMemory> memory);

  cluster::PostOffice& post_office() { return post_office_; }
  const WorkerMemory& memory() const { return *memory_; }
  // The latest that Membership told; null before the first.
  cluster::ClusterViewPtr view() const { return *view_; }
  // Nodes that this one does not hear now.
  const std::set<runtime::NodeId>& suspected() const { return *suspected_; }
  const actors::RouterCounters& router_counters() const { return *router_counters_; }
  const actors::BatcherCounters& batcher_counters() const { return *batcher_counters_; }
  const actors::DecoderCounters& decoder_counters() const { return *decoder_counters_; }
  const actors::ExpertGroupCounters& expert_counters() const { return *expert_counters_; }

 private:
  std::shared_ptr<WorkerMemory> memory_;
  std::shared_ptr<actors::RouterCounters> router_counters_ = std::make_shared<actors::RouterCounters>();
  std::shared_ptr<actors::BatcherCounters> batcher_counters_ = std::make_shared<actors::BatcherCounters>();
  std::shared_ptr<actors::DecoderCounters> decoder_counters_ = std::make_shared<actors::DecoderCounters>();
  std::shared_ptr<actors::ExpertGroupCounters> expert_counters_ = std::make_shared<actors::ExpertGroupCounters>();
  std::shared_ptr<std::set<runtime::NodeId>> suspected_ = std::make_shared<std::set<runtime::NodeId>>();
  // Actors that are restarted begin with it.
  std::shared_ptr<cluster::ClusterViewPtr> view_ = std::make_shared<cluster::ClusterViewPtr>();
  cluster::PostOffice post_office_;
};

// "consort 0.1.0": workers and Coordinator of one cluster run the same build.
std::string build_name();

}  // namespace consort::cli
