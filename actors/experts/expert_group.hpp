// ExpertGroup: answers for the parts placed on one device of its node: computes them, loads them, times them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "actors/experts/route_messages.hpp"
#include "model/checkpoint.hpp"
#include "model/part_store.hpp"
#include "runtime/actor.hpp"
#include "runtime/buffer.hpp"

namespace consort::actors {

// What happened so far; whoever looks reads it.
struct ExpertGroupCounters {
  std::uint64_t computations = 0;
  std::uint64_t rows = 0;          // of parts, so that a row counts once for each of its experts here
  std::uint64_t weight_bytes = 0;  // read for them
  std::uint64_t busy_ns = 0;       // of the executor
};

// What the actor works on lives outside it, so that a restart takes milliseconds.
struct ExpertGroupParts {
  std::shared_ptr<const model::Checkpoint> checkpoint;
  std::shared_ptr<model::PartStore> store;
  runtime::BufferPool* buffers = nullptr;                                             // outputs are taken from here
  std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes)> progress;  // of LoadParts; may be empty
  bool is_timed_by_model = false;  // the device's time is computed, not spent: a probe need not repeat what it times
  // Asked for and not yet answered. A Decoder has a few dispatches out for each of its micro-batches, so that this many
  // wait only for somebody who does not wait for answers; the executor takes 65,536 for a bug.
  std::size_t most_computations = 1024;
  std::shared_ptr<ExpertGroupCounters> counters = nullptr;  // may be null; outlives restarts
};

class ExpertGroup final : public runtime::ActorOf<ExpertGroup, ExpertGroupProtocol> {
 public:
  // `view` may be null until Membership tells one.
  ExpertGroup(ExpertGroupParts parts, cluster::ClusterViewPtr view);
  ~ExpertGroup() override;

  void on(ComputeParts message, runtime::ReplyTo<PartOutputs> reply, const runtime::Context& context);
  void on(cluster::LoadParts message, runtime::ReplyTo<cluster::PartsLoaded> reply);
  void on(cluster::ProbeParts message, runtime::ReplyTo<cluster::PartsProbed> reply);
  void on(cluster::ViewChanged message) { view_ = std::move(message.view); }
  void on(cluster::PeerSuspected) {}
  void on(cluster::PeerLost) {}

 private:
  struct Computation;
  struct Loading;
  struct Probe;
  runtime::Outcome<std::shared_ptr<Computation>> prepare(ComputeParts message, const runtime::Context& context);
  void load_next(std::uint64_t order);
  void finish_loading();
  void probe_next();
  void finish_probe(runtime::Outcome<cluster::PartsProbed> outcome);

  ExpertGroupParts parts_;
  cluster::ClusterViewPtr view_;
  std::unique_ptr<Loading> loading_;
  std::uint64_t load_orders_ = 0;
  std::shared_ptr<Probe> probe_;  // shared with its work on the executor
  // Replies stay with the actor: what the executor holds may outlive the loop.
  runtime::ReplyTo<cluster::PartsProbed> probe_reply_;
  std::map<std::uint64_t, runtime::ReplyTo<PartOutputs>> owed_;
  std::uint64_t next_computation_ = 1;
};

}  // namespace consort::actors
