// Batcher: what runs in the next step of a Decoder, and what its answer commits.
#include <algorithm>
#include <utility>

#include "actors/serving/batcher_records.hpp"
#include "actors/serving/step_plan.hpp"

namespace consort::actors {

using runtime::Error;
using runtime::ErrorKind;
using runtime::MessageClass;
using runtime::Outcome;

void Batcher::schedule() {
  drive_warm_ups();
  place_requests();
  for (const auto& [node, peer] : decoders_) {
    if (peer->is_open && peer->step == nullptr) run_next_step(*peer);
  }
  count();
}

void Batcher::run_next_step(DecoderPeer& peer) {
  std::vector<Request*> ready;
  const std::set<Turn> running = peer.running;  // some may have to make room for earlier ones
  for (const Turn& turn : running) {
    Request& request = *requests_.at(turn.second);
    if (request.decoder != peer.node || request.lacks_mask) continue;
    if (request.is_waiting && request.retry_at > now()) continue;
    if (make_room(request, peer)) ready.push_back(&request);
  }
  const auto warm_up = std::ranges::find(ready, RequestKind::kWarmUp, &Request::kind);
  const bool visits = warm_up != ready.end();
  if (visits) ready = {*warm_up};
  std::vector<StepCandidate> candidates;
  for (const Request* request : ready) {
    candidates.push_back({request->kv_length, static_cast<std::uint32_t>(request->tokens.size())});
  }
  const auto decode_rows = static_cast<std::uint32_t>(
      std::ranges::count_if(candidates, [](const StepCandidate& one) { return one.token_count - one.kv_length == 1; }));
  const auto plan =
      plan_step(candidates, peer.pace.prompt_rows(decode_rows, settings_.chunk_tokens), kMaxStepSequences);
  if (plan.empty()) return;
  auto step = std::make_shared<StepInFlight>();
  step->name = next_name_++;
  step->decoder = peer.node;
  step->ledger = peer.ledger_name;
  step->began = now();
  RunStep message{peer.ledger_name, step->name, visits, {}};
  auto last_deadline = now();
  runtime::SendOptions options{MessageClass::kBulk, {}};
  for (const PlannedRows& rows : plan) {
    Request& request = *ready[rows.candidate];
    StepSequence& sequence = message.sequences.emplace_back();
    sequence.request = request.name;
    sequence.first_position = request.kv_length;
    sequence.pages = request.lease.pages();
    const auto first = request.tokens.begin() + request.kv_length;
    sequence.tokens.assign(first, first + rows.row_count);
    const bool samples =
        request.kv_length + rows.row_count == request.tokens.size() && request.kind != RequestKind::kLogits;
    sequence.first_sampled_row = samples ? rows.row_count - 1 : rows.row_count;
    sequence.sampling = request.sampling;
    if (samples) sequence.adjustment = adjustment_of(request);
    sequence.capture = request.capture;
    step->rows.push_back({request.name, request.kv_length, rows.row_count, samples});
    step->leases.push_back(request.lease.again());
    last_deadline = std::max(last_deadline, request.deadline);
    (rows.row_count == 1 ? step->decode_rows : step->prompt_rows) += rows.row_count;
    if (rows.row_count == 1) options.message_class = MessageClass::kDecode;  // a token must not wait behind a prompt
  }
  peer.step = step;
  ++counters_->steps;
  ask(peer.ref(), std::move(message), last_deadline - now() + kStepGrace, options)
      .then([this, step](Outcome<StepDone> outcome) { on_step(step, std::move(outcome)); });
}

void Batcher::on_step(const std::shared_ptr<StepInFlight>& step, Outcome<StepDone> outcome) {
  const auto peer = decoders_.find(step->decoder);
  const bool is_current = peer != decoders_.end() && peer->second->ledger_name == step->ledger;
  if (is_current) {
    peer->second->step.reset();
    if (outcome.ok()) peer->second->pace.measured(step->decode_rows, step->prompt_rows, now() - step->began);
  }
  step->leases.clear();  // the Decoder touches the pages no more; schedule() counts them and gives them out again
  if (outcome.ok() && outcome->sequences.size() != step->rows.size()) {
    outcome = Error{ErrorKind::kMalformed, "the Decoder answered for another number of sequences"};
  }
  if (outcome.ok()) {
    for (std::size_t i = 0; i < step->rows.size(); ++i) {
      const auto found = requests_.find(step->rows[i].request);
      if (found == requests_.end() || found->second->ledger != step->ledger) continue;  // ended, or moved meanwhile
      if (found->second->kind == RequestKind::kWarmUp) {
        on_warmed(*found->second, *step, outcome.value());
      } else {
        on_sequence(*step, i, std::move(outcome->sequences[i]));
      }
    }
  } else if (is_current && outcome.error().kind == ErrorKind::kInvalid) {
    for (const StepInFlight::Row& row : step->rows) end(row.request, EndReason::kFailed, outcome.error().text);
  } else if (is_current) {
    lose_decoder(step->decoder);
  }
  schedule();
}

void Batcher::on_sequence(const StepInFlight& step, std::size_t index, SequenceDone done) {
  const StepInFlight::Row& row = step.rows[index];
  Request& request = *requests_.at(row.request);
  if (done.failed) return end(request.name, EndReason::kFailed, std::move(done.reason));
  request.is_waiting = done.waiting;
  if (done.waiting) {
    request.waiting_for = std::move(done.reason);
    ++request.waits;
    ++counters_->waits;
    request.retry_at = now() + kRetryEvery;
    after(kRetryEvery, [this] { schedule(); });
    return;
  }
  if (row.samples && done.sampled.size() != 1) {
    return end(request.name, EndReason::kFailed, "the Decoder answered without a token");
  }
  request.kv_length = row.first_position + row.row_count;
  const DecoderPeer& peer = *decoders_.at(request.decoder);
  name_pages(request, peer);
  if (request.kind == RequestKind::kLogits) {
    if (request.kv_length == request.prompt_count) finish_logits(request, peer);
    return;
  }
  if (row.samples) commit(request, std::move(done.sampled));
}

void Batcher::retry_now() {
  for (const auto& [name, request] : requests_) request->retry_at = now();
}

}  // namespace consort::actors
