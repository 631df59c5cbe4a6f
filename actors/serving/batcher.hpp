// Batcher: keeps every request's committed tokens, decides what runs in the next step of each Decoder, streams the
// tokens. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "actors/serving/page_ledger.hpp"
#include "actors/serving/step_messages.hpp"
#include "runtime/actor.hpp"

namespace consort::actors {

struct BatcherSettings {
  std::uint32_t max_running = 8;     // requests that hold pages
  std::uint32_t max_queued = 64;     // further ones that wait; beyond: exhausted
  std::uint32_t chunk_tokens = 128;  // prefill rows of one step
};

// What tests, status and the simulator's checkers read. Pages are those in use, over all ledgers that are alive.
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
  // `view` may be null until Membership tells one; `counters` may be null, and outlives restarts.
  Batcher(BatcherSettings settings, cluster::ClusterViewPtr view, std::shared_ptr<BatcherCounters> counters = nullptr);
  ~Batcher() override;

  void on(GenerateTokens message, runtime::ReplyTo<GenerationAccepted> reply, const runtime::Context& context);
  void on(GrantTokens message, const runtime::Context& context);
  void on(CancelGeneration message, const runtime::Context& context);
  void on(ComputeLogits message, runtime::ReplyTo<LogitsComputed> reply);
  void on(ReadLogitsSlice message, runtime::ReplyTo<LogitsSlice> reply);
  void on(ReleaseLogits message);
  void on(WarmUp message, runtime::ReplyTo<WarmUpDone> reply);
  void on(cluster::ViewChanged message);
  void on(cluster::PeerSuspected message);
  void on(cluster::PeerLost message);

 private:
  struct Request;  // batcher_records.hpp
  struct DecoderPeer;
  struct StepInFlight;
  struct WarmUpJob;
  struct KeptLogits;
  using Life = std::pair<runtime::NodeId, runtime::Incarnation>;
  void on_start() override;

  // Requests: batcher.cpp.
  runtime::Status may_enter(std::span<const std::uint32_t> ids) const;
  Request& enter(std::vector<std::uint32_t> ids, runtime::Duration deadline);
  Request* find(const runtime::ActorRef& client, std::uint64_t stream);
  void commit(Request& request, std::vector<StepToken> sampled);
  void stream_tokens(Request& request);
  void end(std::uint64_t request, EndReason reason, std::string text,
           runtime::ErrorKind kind = runtime::ErrorKind::kInternal);
  void on_deadline(std::uint64_t request);
  void on_client_gone(const runtime::ActorRef& client);
  std::string state_in_words(const Request& request) const;

  // Steps: batcher_steps.cpp.
  void schedule();
  void place_requests();
  DecoderPeer* choose_decoder(const Request& request, std::uint32_t pages);
  runtime::Status fits_decoder(const Request& request, const DecoderPeer& peer) const;
  void run_next_step(DecoderPeer& peer);
  void on_step(const std::shared_ptr<StepInFlight>& step, runtime::Outcome<StepDone> outcome);
  void on_sequence(const StepInFlight& step, std::size_t index, SequenceDone done);
  void unplace(Request& request);
  void retry_now();
  void count();

  // Decoders: batcher_decoders.cpp.
  void follow_view();
  void open_ledger(runtime::NodeId node);
  void lose_decoder(runtime::NodeId node);
  bool is_suspected(const DecoderPeer& peer) const;

  // Logits and warm-up: batcher_jobs.cpp.
  void finish_logits(Request& request, const DecoderPeer& peer);
  void drop_logits(std::uint64_t capture);
  void drive_warm_ups();
  void on_warmed(Request& request, const StepInFlight& step, const StepDone& done);
  std::string missing_in_words(const WarmUpJob& job) const;

  const BatcherSettings settings_;
  cluster::ClusterViewPtr view_;
  std::shared_ptr<BatcherCounters> counters_;
  std::uint64_t next_name_ = 1;  // of requests, ledgers, steps and captures; unique over lives, see on_start
  std::map<std::uint64_t, std::unique_ptr<Request>> requests_;  // by age
  std::map<runtime::NodeId, std::unique_ptr<DecoderPeer>> decoders_;
  std::set<Life> suspected_;
  std::set<Life> lost_;
  std::set<runtime::ActorRef> monitored_;
  std::map<std::uint64_t, KeptLogits> kept_logits_;
  std::map<std::uint64_t, std::unique_ptr<WarmUpJob>> warm_ups_;
  std::vector<std::weak_ptr<PageLedger>> ledgers_;  // that may still have pages in use
};

}  // namespace consort::actors
