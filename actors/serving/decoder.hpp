// Decoder: runs steps of its layers' trunk in micro-batches; while one waits for parts, another computes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/experts/pass_observer.hpp"
#include "actors/experts/route_messages.hpp"
#include "actors/serving/capture.hpp"
#include "actors/serving/step_messages.hpp"
#include "model/forward_pass.hpp"
#include "model/kv_pages.hpp"
#include "model/trunk.hpp"
#include "runtime/actor.hpp"
#include "runtime/buffer.hpp"

namespace consort::actors {

struct DecoderSettings {
  int micro_batches = 2;                 // 1: a step is one pass
  std::uint32_t min_rows_to_split = 32;  // rows of one sequence that are worth two passes: weights are read twice
};

// Where the time of steps went. Each moment of a step is in one of these, save what is between two of them: turns of
// the loop, and hand-over to the executor.
struct DecoderCounters {
  std::uint64_t steps = 0;
  std::uint64_t rows = 0;
  std::uint64_t tokens = 0;  // sampled
  runtime::Duration step_time{0};
  // The device computed ...
  runtime::Duration attention{0};  // with norms, the gate, and layers without experts
  runtime::Duration shared{0};
  runtime::Duration combine{0};
  runtime::Duration head{0};  // the rest of the last layer, logits, sampling
  // ... or it had nothing to compute, because of the parts that came last:
  runtime::Duration dispatch{0};                      // they had not left yet
  runtime::Duration experts{0};                       // they were computed
  std::map<runtime::NodeId, runtime::Duration> wait;  // they were on the wire to or from this node, or in its queues
};

// What the actor works on lives outside it, so that a restart takes milliseconds.
struct DecoderParts {
  std::shared_ptr<const model::Trunk> trunk;
  std::shared_ptr<model::KvPages> pages;
  runtime::BufferPool* buffers = nullptr;  // rows for the Router are taken from here
  std::uint64_t trunk_bytes = 0;           // what one row through all layers reads: for simulated devices and traces
  PassObserver* observer = nullptr;
  std::shared_ptr<DecoderCounters> counters = nullptr;  // may be null; outlives restarts
};

// Asks the Router of its own node (Role::kRouter, index 0). One step at a time; a further one is refused.
class Decoder final : public runtime::ActorOf<Decoder, DecoderProtocol> {
 public:
  explicit Decoder(DecoderParts parts, DecoderSettings settings = {});
  ~Decoder() override;

  void on(OpenLedger message, runtime::ReplyTo<LedgerOpened> reply);
  void on(RunStep message, runtime::ReplyTo<StepDone> reply, const runtime::Context& context);
  void on(ReadLogitsSlice message, runtime::ReplyTo<LogitsSlice> reply);
  void on(ReleaseLogits message);

 private:
  struct MicroBatch;
  struct Running;

  using RunningPtr = std::shared_ptr<Running>;  // shared with its work on the executor
  runtime::Status begin(Running& step);
  std::uint64_t layer_bytes() const;
  void advance_ready(const RunningPtr& step);
  void advance(const RunningPtr& step, std::size_t batch);
  void while_away(const RunningPtr& step, std::size_t batch);
  void ask_for_parts(const RunningPtr& step, std::size_t batch);
  void on_parts(const RunningPtr& step, std::size_t batch, runtime::Outcome<RoutedOutputs> outcome);
  void finish(const RunningPtr& step);
  void device_begins();
  void device_ends();

  DecoderParts parts_;
  const DecoderSettings settings_;
  std::uint64_t ledger_ = 0;
  RunningPtr running_;
  std::shared_ptr<DecoderCounters> counters_;  // never null
  int computing_ = 0;                          // works of the step at hand that the device has
  runtime::Instant idle_since_;                // while it has none
  // Of the parts that came last.
  runtime::Instant awaited_sent_;
  runtime::NodeId awaited_;
  runtime::Duration awaited_compute_{0};
  runtime::ReplyTo<StepDone> reply_;  // stays with the actor: what the executor holds may outlive the loop
  std::map<std::uint64_t, std::shared_ptr<Capture>> captures_;
};

}  // namespace consort::actors
