// Batcher: which request runs where, and what a step's answer commits.
#include <algorithm>
#include <utility>

#include "actors/serving/batcher_records.hpp"
#include "actors/serving/step_plan.hpp"
#include "model/kv_pages.hpp"

namespace consort::actors {

using runtime::Duration;
using runtime::Error;
using runtime::ErrorKind;
using runtime::failure;
using runtime::MessageClass;
using runtime::NodeId;
using runtime::Outcome;
using runtime::Status;

namespace {

std::uint32_t pages_needed(std::uint32_t prompt_count, std::uint32_t max_new_tokens) {
  return static_cast<std::uint32_t>(model::pages_for(std::int64_t{prompt_count} + max_new_tokens));
}

}  // namespace

void Batcher::schedule() {
  drive_warm_ups();
  place_requests();
  for (const auto& [node, peer] : decoders_) {
    if (peer->is_open && peer->step == nullptr) run_next_step(*peer);
  }
  count();
}

// Gives requests that run nowhere a Decoder and all pages that they can ever need, oldest first.
void Batcher::place_requests() {
  const bool any_good = std::ranges::any_of(
      decoders_, [&](const auto& entry) { return entry.second->is_open && !is_suspected(*entry.second); });
  std::uint32_t running = 0;
  for (const auto& [name, request] : requests_) {
    if (request->decoder.value == 0) continue;
    if (any_good && request->pinned.value == 0 && is_suspected(*decoders_.at(request->decoder))) {
      unplace(*request);
      ++request->moves;
      ++counters_->decoder_moves;
    } else {
      ++running;
    }
  }
  std::vector<std::pair<std::uint64_t, std::string>> hopeless;
  for (const auto& [name, request] : requests_) {
    if (request->decoder.value != 0 || request->whole) continue;
    if (running >= settings_.max_running && request->kind != RequestKind::kWarmUp) break;
    const std::uint32_t pages = pages_needed(request->prompt_count, request->max_new_tokens);
    DecoderPeer* peer = choose_decoder(*request, pages);
    if (peer == nullptr) {
      // Where every Decoder that is here says no for good, waiting would not help.
      Status last = runtime::done();
      bool any_fits = decoders_.empty();
      for (const auto& [node, other] : decoders_) {
        Status fits = other->is_open ? fits_decoder(*request, *other) : runtime::done();
        any_fits = any_fits || fits.ok();
        if (!fits.ok()) last = std::move(fits);
      }
      if (!any_fits) {
        hopeless.emplace_back(name, last.error().text);
      } else if (any_good && request->kind != RequestKind::kWarmUp) {
        break;  // in order: younger ones must not starve it of pages
      }
      continue;
    }
    request->decoder = peer->node;
    request->ledger = peer->ledger_name;
    request->lease = PageLease(peer->ledger, peer->ledger->allocate(pages));
    if (request->kind == RequestKind::kLogits) request->capture = next_name_++;
    ++running;
  }
  for (auto& [name, why] : hopeless) end(name, EndReason::kFailed, std::move(why), ErrorKind::kInvalid);
}

// The one with the fewest requests among those that can take it.
Batcher::DecoderPeer* Batcher::choose_decoder(const Request& request, std::uint32_t pages) {
  std::map<NodeId, std::size_t> load;
  for (const auto& [name, other] : requests_) ++load[other->decoder];
  DecoderPeer* best = nullptr;
  for (const auto& [node, peer] : decoders_) {
    if (!peer->is_open || is_suspected(*peer)) continue;
    if (request.pinned.value != 0 && request.pinned != node) continue;
    if (peer->ledger->available() < pages || !fits_decoder(request, *peer).ok()) continue;
    if (best == nullptr || load[node] < load[best->node]) best = peer.get();
  }
  return best;
}

Status Batcher::fits_decoder(const Request& request, const DecoderPeer& peer) const {
  const std::uint64_t positions = std::uint64_t{request.prompt_count} + request.max_new_tokens;
  if (positions > peer.limits.context_tokens) {
    return failure(ErrorKind::kInvalid, "the prompt has " + std::to_string(request.prompt_count) +
                                            " tokens and may grow by " + std::to_string(request.max_new_tokens) +
                                            "; the model takes " + std::to_string(peer.limits.context_tokens));
  }
  const std::uint32_t pages = pages_needed(request.prompt_count, request.max_new_tokens);
  if (pages > peer.ledger->page_count()) {
    return failure(ErrorKind::kInvalid, "the request needs " + std::to_string(pages) +
                                            " KV pages of 64 positions; the Decoder has " +
                                            std::to_string(peer.ledger->page_count()) + " (give its node more memory)");
  }
  for (const std::uint32_t token : request.tokens) {
    if (token >= peer.limits.vocabulary) {
      return failure(ErrorKind::kInvalid, "token id " + std::to_string(token) + " is outside the vocabulary of " +
                                              std::to_string(peer.limits.vocabulary));
    }
  }
  return runtime::done();
}

void Batcher::run_next_step(DecoderPeer& peer) {
  std::vector<Request*> ready;
  for (const auto& [name, request] : requests_) {
    if (request->decoder != peer.node || request->whole) continue;
    if (request->is_waiting && request->retry_at > now()) continue;
    ready.push_back(request.get());
  }
  const auto warm_up = std::ranges::find(ready, RequestKind::kWarmUp, &Request::kind);
  const bool visits = warm_up != ready.end();
  if (visits) ready = {*warm_up};
  std::vector<StepCandidate> candidates;
  for (const Request* request : ready) {
    candidates.push_back({request->kv_length, static_cast<std::uint32_t>(request->tokens.size())});
  }
  const auto plan = plan_step(candidates, settings_.chunk_tokens, kMaxStepSequences);
  if (plan.empty()) return;
  auto step = std::make_shared<StepInFlight>();
  step->name = next_name_++;
  step->decoder = peer.node;
  step->ledger = peer.ledger_name;
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
    sequence.capture = request.capture;
    step->rows.push_back({request.name, request.kv_length, rows.row_count, samples});
    step->leases.push_back(request.lease.again());
    last_deadline = std::max(last_deadline, request.deadline);
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
  if (is_current) peer->second->step.reset();
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
  if (request.kind == RequestKind::kLogits) {
    if (request.kv_length == request.prompt_count) finish_logits(request, *decoders_.at(request.decoder));
    return;
  }
  if (row.samples) commit(request, std::move(done.sampled));
}

// It runs nowhere then; what counts are its committed tokens.
void Batcher::unplace(Request& request) {
  if (request.capture != 0) {
    if (const auto peer = decoders_.find(request.decoder); peer != decoders_.end()) {
      tell(peer->second->ref(), ReleaseLogits{request.capture});
    }
    request.capture = 0;
  }
  request.decoder = NodeId{};
  request.ledger = 0;
  request.lease.release();
  request.kv_length = 0;
  request.is_waiting = false;
}

void Batcher::retry_now() {
  for (const auto& [name, request] : requests_) request->retry_at = now();
}

void Batcher::count() {
  counters_->running = 0;
  counters_->queued = 0;
  for (const auto& [name, request] : requests_) {
    if (request->decoder.value != 0) {
      ++counters_->running;
    } else if (!request->whole) {
      ++counters_->queued;
    }
  }
  counters_->pages_used = 0;
  std::erase_if(ledgers_, [](const auto& ledger) { return ledger.expired(); });
  for (const auto& ledger : ledgers_) counters_->pages_used += ledger.lock()->used();
}

}  // namespace consort::actors
