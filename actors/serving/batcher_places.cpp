// Batcher: which request runs on which Decoder, and which pages are its own for how long.
#include <algorithm>
#include <utility>

#include "actors/experts/part_messages.hpp"
#include "actors/serving/batcher_records.hpp"
#include "model/kv_pages.hpp"

namespace consort::actors {

using runtime::ErrorKind;
using runtime::failure;
using runtime::NodeId;
using runtime::Status;

namespace {

// A request goes to the Decoder with most of its prompt in KV, unless that one is much busier: one more request there
// weighs as much as this many tokens that have to be computed, a page.
constexpr std::uint64_t kRequestWeighsTokens = model::kPagePositions;

std::uint32_t pages_of(std::size_t positions) {
  return static_cast<std::uint32_t>(model::pages_for(static_cast<std::int64_t>(positions)));
}

}  // namespace

void Batcher::enqueue(Request& request) {
  if (waiting_.insert(request.turn()).second) waiting_tokens_ += request.cost();
}

void Batcher::leave_queue(Request& request) {
  if (waiting_.erase(request.turn()) > 0) waiting_tokens_ -= request.cost();
}

// Gives requests that run nowhere a Decoder and pages for all tokens that they have, first turn first.
void Batcher::place_requests() {
  const bool any_good = std::ranges::any_of(
      decoders_, [&](const auto& entry) { return entry.second->is_open && !is_suspected(*entry.second); });
  std::size_t running = 0;
  for (const auto& [node, peer] : decoders_) {
    if (any_good && is_suspected(*peer)) {
      const std::set<Turn> there = peer->running;
      for (const Turn& turn : there) {
        Request& request = *requests_.at(turn.second);
        if (request.pinned.value == 0) move_elsewhere(request);
      }
    }
    running += peer->running.size();
  }
  std::vector<std::pair<std::uint64_t, std::string>> hopeless;
  const std::set<Turn> waiting = waiting_;
  for (const Turn& turn : waiting) {
    Request& request = *requests_.at(turn.second);
    if (running >= settings_.max_running && request.kind != RequestKind::kWarmUp) break;
    Place found = find_place(request);
    if (found.peer != nullptr) {
      place(request, *found.peer, std::move(found.lease), found.cached_pages);
      ++running;
      continue;
    }
    // Where every Decoder that is here says no for good, waiting would not help.
    Status last = runtime::done();
    bool any_fits = decoders_.empty();
    for (const auto& [node, other] : decoders_) {
      Status fits = other->is_open ? fits_decoder(request, *other) : runtime::done();
      any_fits = any_fits || fits.ok();
      if (!fits.ok()) last = std::move(fits);
    }
    if (!any_fits) {
      hopeless.emplace_back(request.name, last.error().text);
    } else if (any_good && request.kind != RequestKind::kWarmUp) {
      break;  // in order: later ones must not starve it of pages
    }
  }
  for (auto& [name, why] : hopeless) end(name, EndReason::kFailed, std::move(why), ErrorKind::kInvalid);
}

void Batcher::place(Request& request, DecoderPeer& peer, PageLease lease, std::uint32_t cached_pages) {
  leave_queue(request);
  peer.running.insert(request.turn());
  request.decoder = peer.node;
  request.ledger = peer.ledger_name;
  request.lease = std::move(lease);
  request.kv_length = cached_pages * static_cast<std::uint32_t>(model::kPagePositions);
  if (request.kind == RequestKind::kLogits) request.capture = next_name_++;
  if (request.kind != RequestKind::kGeneration || request.cached_tokens) return;
  request.cached_tokens = std::min(request.kv_length, request.prompt_count);
  if (!settings_.prefix_cache) return;
  counters_->cache_queries += request.prompt_count;
  counters_->cache_hits += *request.cached_tokens;
}

// Of the Decoders with room the one with the least to compute before and beside it. Room is pages for the tokens that
// it has, and a page for each request that runs there already: who comes must not drive out others at once.
Batcher::Place Batcher::find_place(Request& request) {
  Place best;
  std::uint64_t least = 0;
  for (const auto& [node, peer] : decoders_) {
    if (!peer->is_open || is_suspected(*peer)) continue;
    if (request.pinned.value != 0 && request.pinned != node) continue;
    if (!fits_decoder(request, *peer).ok()) continue;
    PageLease lease(peer->ledger, peer->ledger->take(page_names(request)));
    const auto cached = static_cast<std::uint32_t>(lease.pages().size());
    const std::uint32_t wanted = pages_of(request.tokens.size());
    if (peer->ledger->available() < wanted - cached + peer->running.size()) continue;
    const std::uint64_t weight = request.tokens.size() - cached * std::uint64_t{model::kPagePositions} +
                                 kRequestWeighsTokens * peer->running.size();
    if (best.peer != nullptr && weight >= least) continue;
    CONSORT_CHECK(lease.grow_to(wanted));
    best = {peer.get(), std::move(lease), cached};
    least = weight;
  }
  return best;
}

Status Batcher::fits_decoder(const Request& request, const DecoderPeer& peer) const {
  const std::uint64_t positions = request.cost();
  if (positions > peer.limits.context_tokens) {
    return failure(ErrorKind::kInvalid, "the prompt has " + std::to_string(request.prompt_count) +
                                            " tokens and may grow by " + std::to_string(request.max_new_tokens) +
                                            "; the model takes " + std::to_string(peer.limits.context_tokens));
  }
  const std::uint32_t pages = pages_of(positions);
  if (pages > peer.ledger->page_count()) {
    return failure(ErrorKind::kInvalid, "the request needs " + std::to_string(pages) +
                                            " KV pages of 64 positions; the Decoder has " +
                                            std::to_string(peer.ledger->page_count()) + " (give its node more memory)");
  }
  const auto outside = [&](std::uint32_t token) {
    return failure(ErrorKind::kInvalid, "token id " + std::to_string(token) + " is outside the vocabulary of " +
                                            std::to_string(peer.limits.vocabulary));
  };
  for (const std::uint32_t token : request.tokens) {
    if (token >= peer.limits.vocabulary) return outside(token);
  }
  if (request.penalties) {
    for (const model::TokenBias& bias : request.penalties->params().logit_bias) {
      if (bias.token >= peer.limits.vocabulary) return outside(bias.token);
    }
  }
  return runtime::done();
}

// Of the pages that may be taken from the cache: full ones, and one token at least is left to compute.
std::span<const PageName> Batcher::page_names(Request& request) const {
  if (!settings_.prefix_cache || request.kind != RequestKind::kGeneration || view_ == nullptr) return {};
  constexpr auto kPositions = static_cast<std::size_t>(model::kPagePositions);
  if (request.names.empty()) {
    request.names.push_back(root_name(settings_.model, model_plan(view_->numeric_plan).digest(), request.cache_salt));
  }
  while (request.names.size() * kPositions <= request.tokens.size()) {
    const std::size_t first = (request.names.size() - 1) * kPositions;
    request.names.push_back(next_name(request.names.back(), std::span(request.tokens).subspan(first, kPositions)));
  }
  return std::span<const PageName>(request.names).subspan(1, (request.tokens.size() - 1) / kPositions);
}

// Pages that the last step has filled may be shared from now on: it was answered, so their KV is written.
void Batcher::name_pages(Request& request, const DecoderPeer& peer) {
  if (page_names(request).empty()) return;
  const std::size_t full = request.kv_length / static_cast<std::size_t>(model::kPagePositions);
  for (; request.named_pages < full; ++request.named_pages) {
    peer.ledger->give_name(request.lease.pages()[request.named_pages], request.names[request.named_pages + 1]);
  }
}

// It runs nowhere then; what counts are its committed tokens.
void Batcher::unplace(Request& request) {
  const auto peer = decoders_.find(request.decoder);
  if (peer != decoders_.end()) {
    if (request.capture != 0) tell(peer->second->ref(), ReleaseLogits{request.capture});
    peer->second->running.erase(request.turn());
  }
  request.capture = 0;
  request.decoder = NodeId{};
  request.ledger = 0;
  request.lease.release();
  request.kv_length = 0;
  request.named_pages = 0;
  request.is_waiting = false;
}

void Batcher::move_elsewhere(Request& request) {
  unplace(request);
  ++request.moves;
  ++counters_->decoder_moves;
  enqueue(request);
}

// Its tokens stay; what it had in KV is computed again from them, or found in the cache.
void Batcher::preempt(Request& request) {
  unplace(request);
  ++request.preemptions;
  ++counters_->preemptions;
  enqueue(request);
}

// Pages for all tokens that it has, at the cost of those whose turn comes last, and of itself where it is the last. The
// first in turn always gets them, so that there is always one that comes to its end.
bool Batcher::make_room(Request& request, DecoderPeer& peer) {
  while (!request.lease.grow_to(pages_of(request.tokens.size()))) {
    Request& last = *requests_.at(peer.running.rbegin()->second);
    preempt(last);
    if (&last == &request) return false;
  }
  return true;
}

void Batcher::count() {
  counters_->running = 0;
  for (const auto& [node, peer] : decoders_) counters_->running += static_cast<std::uint32_t>(peer->running.size());
  counters_->queued = static_cast<std::uint32_t>(waiting_.size());
  counters_->pages = counters_->pages_used = counters_->pages_cached = 0;
  std::erase_if(ledgers_, [](const auto& ledger) { return ledger.expired(); });
  for (const auto& held : ledgers_) {
    const auto ledger = held.lock();
    counters_->pages += ledger->page_count();
    counters_->pages_used += ledger->used();
    counters_->pages_cached += ledger->cached();
  }
}

}  // namespace consort::actors
