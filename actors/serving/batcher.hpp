// Batcher: keeps every request's committed tokens, decides what runs in the next step of each Decoder, streams the
// tokens. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "actors/serving/admission.hpp"
#include "actors/serving/page_ledger.hpp"
#include "actors/serving/step_messages.hpp"
#include "runtime/actor.hpp"

namespace consort::actors {

struct BatcherSettings {
  std::uint32_t max_running = 64;                            // requests that hold pages, over all Decoders
  std::uint32_t max_queued = 256;                            // further ones that wait; beyond: exhausted
  std::uint64_t max_queued_tokens = std::uint64_t{1} << 20;  // of prompts and of what they may generate, in the queue
  std::uint32_t chunk_tokens = 256;                          // prompt rows of one step, where nobody decodes beside
  bool prefix_cache = true;
  std::uint64_t model = 0;  // Checkpoint::manifest_hash: part of the names of cached pages
};

// What tests, status, metrics and the simulator's checkers read. Pages are those of all ledgers that are alive.
struct BatcherCounters {
  std::uint64_t accepted = 0;
  std::uint64_t refused = 0;  // as the queue was full
  std::uint64_t ended = 0;
  std::uint64_t steps = 0;
  std::uint64_t decoder_moves = 0;
  std::uint64_t waits = 0;
  std::uint64_t preemptions = 0;
  std::uint64_t cache_queries = 0;  // prompt tokens that were looked for
  std::uint64_t cache_hits = 0;     // and those whose KV was there
  std::uint32_t running = 0;
  std::uint32_t queued = 0;
  std::uint32_t pages = 0;         // that there are
  std::uint32_t pages_used = 0;    // that some request or step refers to
  std::uint32_t pages_cached = 0;  // that nobody refers to and whose KV is kept
};

// Finds Decoders in the view: members with the trunk role that are ready. Tells tokens to the actor that asked.
class Batcher final : public runtime::ActorOf<Batcher, BatcherProtocol> {
 public:
  // `view` may be null until Membership tells one; `counters` may be null, and outlives restarts. Without a compiler
  // requests with a constraint are refused; it is called on env.device.
  Batcher(BatcherSettings settings, cluster::ClusterViewPtr view, std::shared_ptr<BatcherCounters> counters = nullptr,
          model::ConstraintCompiler compiler = nullptr);
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
  using Turn = std::pair<std::int32_t, std::uint64_t>;  // priority, request: who comes first
  void on_start() override;

  // Requests: batcher.cpp.
  runtime::Status check_request(const GenerateTokens& message) const;
  std::optional<Refused> refuse_now(std::uint64_t cost_tokens) const;
  Request& enter(std::vector<std::uint32_t> ids, std::uint32_t max_new_tokens, runtime::Duration deadline);
  void accept(Request& request);
  Request* find(const runtime::ActorRef& client, std::uint64_t stream);
  void commit(Request& request, std::vector<StepToken> sampled);
  void stream_tokens(Request& request);
  void end(std::uint64_t request, EndReason reason, std::string text,
           runtime::ErrorKind kind = runtime::ErrorKind::kInternal);
  void on_deadline(std::uint64_t request);
  void on_client_gone(const runtime::ActorRef& client);
  std::string state_in_words(const Request& request) const;

  // What a request's next token may be: batcher_constraints.cpp.
  void compile(Request& request, model::ConstraintSpec spec);
  runtime::Status advance_constraint(Request& request, std::uint32_t token);
  void prepare_mask(Request& request);
  model::LogitAdjustment adjustment_of(const Request& request) const;

  // Who runs where, and the pages of it: batcher_places.cpp.
  void enqueue(Request& request);
  void leave_queue(Request& request);
  void place_requests();
  void place(Request& request, DecoderPeer& peer, PageLease lease, std::uint32_t cached_pages);
  struct Place;
  Place find_place(Request& request);
  runtime::Status fits_decoder(const Request& request, const DecoderPeer& peer) const;
  std::span<const PageName> page_names(Request& request) const;
  void name_pages(Request& request, const DecoderPeer& peer);
  void unplace(Request& request);
  void move_elsewhere(Request& request);
  void preempt(Request& request);
  bool make_room(Request& request, DecoderPeer& peer);
  void count();

  // Steps: batcher_steps.cpp.
  void schedule();
  void run_next_step(DecoderPeer& peer);
  void on_step(const std::shared_ptr<StepInFlight>& step, runtime::Outcome<StepDone> outcome);
  void on_sequence(const StepInFlight& step, std::size_t index, SequenceDone done);
  void retry_now();

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
  const model::ConstraintCompiler compiler_;
  cluster::ClusterViewPtr view_;
  std::shared_ptr<BatcherCounters> counters_;
  std::uint64_t next_name_ = 1;  // of requests, ledgers, steps and captures; unique over lives, see on_start
  std::map<std::uint64_t, std::unique_ptr<Request>> requests_;                    // by age
  std::map<std::pair<runtime::ActorRef, std::uint64_t>, std::uint64_t> streams_;  // client and stream: request
  std::set<Turn> waiting_;            // requests that could run and have no Decoder
  std::uint64_t waiting_tokens_ = 0;  // what they cost
  std::map<runtime::NodeId, std::unique_ptr<DecoderPeer>> decoders_;
  std::set<Life> suspected_;
  std::set<Life> lost_;
  std::set<runtime::ActorRef> monitored_;
  std::map<std::uint64_t, KeptLogits> kept_logits_;
  std::map<std::uint64_t, std::unique_ptr<WarmUpJob>> warm_ups_;
  std::vector<std::weak_ptr<PageLedger>> ledgers_;  // that may still have pages in use
};

}  // namespace consort::actors
