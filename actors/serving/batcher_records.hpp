// What the Batcher's sources share: a request, a Decoder as the Batcher sees it, a step under way.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "actors/serving/batcher.hpp"
#include "actors/serving/step_pace.hpp"
#include "model/penalties.hpp"

namespace consort::actors {

// A request that lacked parts is tried again at every change of the view, and this often: suspicion is another node's.
inline constexpr runtime::Duration kRetryEvery = std::chrono::milliseconds(200);
// A Decoder that refuses a ledger or a step is asked again after this.
inline constexpr runtime::Duration kReopenAfter = std::chrono::milliseconds(200);
// How often a warm-up looks for Decoders and nodes that were not ready before.
inline constexpr runtime::Duration kWarmUpEvery = std::chrono::milliseconds(100);
inline constexpr runtime::Duration kLedgerPatience = std::chrono::seconds(2);
// Logits that nobody reads are dropped.
inline constexpr runtime::Duration kLogitsIdle = std::chrono::minutes(2);
// The step's answer may come this long after the last deadline in it: the Decoder answers in words before.
inline constexpr runtime::Duration kStepGrace = std::chrono::seconds(1);

enum class RequestKind : std::uint8_t { kGeneration, kLogits, kWarmUp };

struct Batcher::Request {
  std::uint64_t name = 0;
  RequestKind kind = RequestKind::kGeneration;
  runtime::ActorRef client;
  std::uint64_t stream = 0;
  std::uint32_t prompt_count = 0;
  std::vector<std::uint32_t> tokens;  // prompt and committed ones: all that another Decoder needs to go on
  std::vector<StepToken> generated;   // the committed ones
  model::SamplingParams sampling;
  std::uint32_t max_new_tokens = 0;
  std::vector<std::uint32_t> stop_ids;
  std::int32_t priority = 0;
  std::uint64_t cost() const { return std::uint64_t{prompt_count} + max_new_tokens; }  // tokens, for admission
  Turn turn() const { return {priority, name}; }
  std::optional<runtime::ReplyTo<GenerationAccepted>> accept_reply;  // while its constraint is compiled
  std::optional<model::Penalties> penalties;
  std::shared_ptr<model::TokenConstraint> constraint;
  model::TokenMaskPtr mask;  // of the next token; null: all
  bool lacks_mask = false;   // the device makes it
  std::string cache_salt;
  runtime::Instant deadline;
  runtime::TimerId deadline_timer = 0;
  std::uint32_t credits = 0;
  std::uint32_t sent = 0;          // of generated
  std::optional<EndReason> whole;  // all tokens are made; what is left is to send them
  // Where it runs.
  runtime::NodeId decoder;  // 0: nowhere
  std::uint64_t ledger = 0;
  PageLease lease;
  std::uint32_t kv_length = 0;                 // tokens whose KV the Decoder has
  std::size_t named_pages = 0;                 // of the lease, from the first on: offered to the cache
  std::vector<PageName> names;                 // root, then of the full pages of tokens, as far as they were asked for
  std::optional<std::uint32_t> cached_tokens;  // of the prompt, when it first ran
  std::uint32_t preemptions = 0;
  bool is_waiting = false;  // its last step lacked a part
  runtime::Instant retry_at;
  std::string waiting_for;
  std::uint32_t moves = 0;
  std::uint32_t waits = 0;
  // Logits and warm-up.
  std::optional<runtime::ReplyTo<LogitsComputed>> logits_reply;
  std::uint64_t capture = 0;
  std::uint64_t warm_up = 0;  // the job it belongs to
  runtime::NodeId pinned;     // only this Decoder will do; 0: any
};

struct Batcher::DecoderPeer {
  runtime::NodeId node;
  runtime::Incarnation incarnation;
  bool is_open = false;  // the ledger is
  std::uint64_t ledger_name = 0;
  std::shared_ptr<PageLedger> ledger;
  LedgerOpened limits;
  std::shared_ptr<StepInFlight> step;  // at most one
  std::set<Turn> running;              // requests placed here
  StepPace pace;
  runtime::RefTo<DecoderProtocol> ref() const {
    return {{node, incarnation, cluster::actor_id(cluster::Role::kDecoder)}};
  }
};

struct Batcher::StepInFlight {
  std::uint64_t name = 0;
  runtime::NodeId decoder;
  std::uint64_t ledger = 0;
  runtime::Instant began;
  std::uint32_t decode_rows = 0;
  std::uint32_t prompt_rows = 0;
  struct Row {
    std::uint64_t request = 0;
    std::uint32_t first_position = 0;
    std::uint32_t row_count = 0;
    bool samples = false;
  };
  std::vector<Row> rows;
  std::vector<PageLease> leases;  // pages stay taken until the Decoder has answered, whatever becomes of requests
};

// Where a request could run, with the pages for it.
struct Batcher::Place {
  DecoderPeer* peer = nullptr;  // null: no Decoder can take it at this moment
  PageLease lease;
  std::uint32_t cached_pages = 0;  // of the lease
};

struct Batcher::KeptLogits {
  runtime::RefTo<DecoderProtocol> decoder;
  runtime::TimerId idle_timer = 0;
};

struct Batcher::WarmUpJob {
  std::uint64_t name = 0;
  runtime::ReplyTo<WarmUpDone> reply;
  runtime::Instant deadline;
  runtime::TimerId timer = 0;
  std::set<runtime::NodeId> asked;  // Decoders with a request under way
  std::set<runtime::NodeId> warmed;
  std::set<runtime::NodeId> visited;
  std::string trouble;  // the last one
};

}  // namespace consort::actors
