// Batcher: keeps every request's committed tokens, decides what runs in the next step of each Decoder, streams the tokens.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "actors/serving/page_ledger.hpp"
#include "actors/serving/step_messages.hpp"
#include "runtime/actor.hpp"

namespace consort::actors {

struct BatcherSettings {
  std::uint32_t max_running = 8;     // requests that hold pages
  std::uint32_t max_queued = 64;     // further ones that wait; beyond: exhausted
  std::uint32_t chunk_tokens = 128;  // prefill rows of one step
  std::uint64_t seed = 0;            // names ledgers and captures: differs between lives of the Batcher
};

// What tests, status and the simulator's checkers read. Pages are those in use, over all Decoders that are here.
struct BatcherCounters {
  std::uint64_t accepted = 0;
  std::uint64_t ended = 0;
  std::uint64_t steps = 0;
  std::uint64_t decoder_moves = 0;
  std::uint64_t waits = 0;
  std::uint32_t running = 0;
  std::uint32_t queued = 0;
  std::uint32_t pages_used = 0;
};

// Finds Decoders in the view: members with the trunk role that are ready. Tells tokens to the actor that asked.
class Batcher final : public runtime::ActorOf<Batcher, BatcherProtocol> {
 public:
  // `view` may be null until Membership tells one; `counters` may be null.
  Batcher(BatcherSettings settings, cluster::ClusterViewPtr view, std::shared_ptr<BatcherCounters> counters = nullptr);
  ~Batcher() override;

  void on(GenerateTokens message, runtime::ReplyTo<GenerationAccepted> reply, const runtime::Context& context);
  void on(GrantTokens message, const runtime::Context& context);
  void on(CancelGeneration message, const runtime::Context& context);
  void on(ComputeLogits message, runtime::ReplyTo<LogitsComputed> reply, const runtime::Context& context);
  void on(ReadLogitsSlice message, runtime::ReplyTo<LogitsSlice> reply);
  void on(ReleaseLogits message);
  void on(WarmUp message, runtime::ReplyTo<WarmUpDone> reply);
  void on(cluster::ViewChanged message);
  void on(cluster::PeerSuspected message);
  void on(cluster::PeerLost message);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace consort::actors
