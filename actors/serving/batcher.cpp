#include "actors/serving/batcher.hpp"

#include <algorithm>
#include <utility>

#include "actors/serving/batcher_records.hpp"
#include "model/penalties.hpp"
#include "model/sampler.hpp"

namespace consort::actors {

using runtime::ActorRef;
using runtime::Context;
using runtime::Duration;
using runtime::ErrorKind;
using runtime::failure;
using runtime::Status;

namespace {

// Nobody waits for ever, whatever a client asks for.
constexpr std::uint32_t kMaxDeadlineMs = 24u * 60 * 60 * 1000;

}  // namespace

Batcher::Batcher(BatcherSettings settings, cluster::ClusterViewPtr view, std::shared_ptr<BatcherCounters> counters,
                 model::ConstraintCompiler compiler)
    : settings_(settings),
      compiler_(std::move(compiler)),
      view_(std::move(view)),
      counters_(counters ? std::move(counters) : std::make_shared<BatcherCounters>()) {}

Batcher::~Batcher() = default;

void Batcher::on_start() {
  // Names that an earlier life gave to ledgers must not come again: a Decoder could take an old step for a new one.
  next_name_ = (std::uint64_t{self().incarnation.value} << 48) + (std::uint64_t{self().actor.generation} << 40) + 1;
  follow_view();
}

// --- requests ------------------------------------------------------------------------------------------------------

Status Batcher::check_request(const GenerateTokens& message) const {
  if (message.prompt.empty()) return failure(ErrorKind::kInvalid, "the prompt has no tokens");
  CONSORT_RETURN_IF_ERROR(model::check(message.sampling));
  CONSORT_RETURN_IF_ERROR(model::check(message.penalties));
  if (message.max_new_tokens == 0) return failure(ErrorKind::kInvalid, "max_new_tokens is 0");
  if (message.priority < -kMaxPriority || message.priority > kMaxPriority) {
    return failure(ErrorKind::kInvalid, "priority is " + std::to_string(message.priority) + "; it must be from " +
                                            std::to_string(-kMaxPriority) + " to " + std::to_string(kMaxPriority));
  }
  if (message.constraint.kind != model::ConstraintKind::kNone && compiler_ == nullptr) {
    return failure(ErrorKind::kInvalid, "this cluster cannot constrain an answer's form");
  }
  return runtime::done();
}

std::optional<Refused> Batcher::refuse_now(std::uint64_t cost_tokens) const {
  QueueLoad load{waiting_.size(), waiting_tokens_, 0};
  for (const auto& [node, peer] : decoders_) load.tokens_per_second += peer->pace.rows_per_second();
  return refuse(load, {settings_.max_queued, settings_.max_queued_tokens}, cost_tokens);
}

Batcher::Request& Batcher::enter(std::vector<std::uint32_t> ids, std::uint32_t max_new_tokens, Duration deadline) {
  auto entered = std::make_unique<Request>();
  Request& request = *entered;
  request.name = next_name_++;
  request.prompt_count = static_cast<std::uint32_t>(ids.size());
  request.tokens = std::move(ids);
  request.max_new_tokens = max_new_tokens;
  request.deadline = now() + deadline;
  request.deadline_timer = after(deadline, [this, name = request.name] { on_deadline(name); });
  requests_.emplace(request.name, std::move(entered));
  return request;
}

void Batcher::on(GenerateTokens message, runtime::ReplyTo<GenerationAccepted> reply, const Context& context) {
  Status allowed = check_request(message);
  if (allowed.ok() && find(context.source, message.stream) != nullptr) {
    allowed = failure(ErrorKind::kInvalid, "this client has a stream of that name already");
  }
  if (!allowed.ok()) return reply.reject(std::move(allowed).error());
  if (const auto refused = refuse_now(message.prompt.size() + message.max_new_tokens)) {
    ++counters_->refused;
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(refused->come_again);
    return reply.send(
        {message.stream, static_cast<std::uint32_t>(waiting_.size()), static_cast<std::uint32_t>(wait.count())});
  }
  Request& request = enter(std::move(message.prompt), message.max_new_tokens,
                           std::chrono::milliseconds(std::min(message.deadline_ms, kMaxDeadlineMs)));
  request.client = context.source;
  request.stream = message.stream;
  request.sampling = message.sampling;
  request.stop_ids = std::move(message.stop_ids);
  request.credits = message.credits;
  request.priority = message.priority;
  request.cache_salt = std::move(message.cache_salt);
  if (message.penalties != model::PenaltyParams{}) {
    request.penalties.emplace(std::move(message.penalties), request.tokens);
  }
  request.accept_reply = std::move(reply);
  streams_[{request.client, request.stream}] = request.name;
  if (monitored_.insert(context.source).second) {
    monitor(context.source, [this, client = context.source](runtime::Down) { on_client_gone(client); });
  }
  if (message.constraint.kind != model::ConstraintKind::kNone) return compile(request, std::move(message.constraint));
  accept(request);
  schedule();
}

// From here on it ends in one GenerationEnded.
void Batcher::accept(Request& request) {
  ++counters_->accepted;
  request.accept_reply->send({request.stream, static_cast<std::uint32_t>(waiting_.size()), 0});
  request.accept_reply.reset();
  enqueue(request);
}

Batcher::Request* Batcher::find(const ActorRef& client, std::uint64_t stream) {
  const auto found = streams_.find({client, stream});
  return found == streams_.end() ? nullptr : requests_.at(found->second).get();
}

void Batcher::on(GrantTokens message, const Context& context) {
  Request* request = find(context.source, message.stream);
  if (request == nullptr) return;  // it ended while the grant was on its way
  // A stream has no more tokens than this, so that credit cannot overflow.
  request->credits =
      std::min(request->max_new_tokens, message.count) + std::min(request->credits, request->max_new_tokens);
  stream_tokens(*request);
  schedule();
}

void Batcher::on(CancelGeneration message, const Context& context) {
  if (Request* request = find(context.source, message.stream))
    end(request->name, EndReason::kCancelled, "cancelled by its client");
  schedule();
}

void Batcher::on_client_gone(const ActorRef& client) {
  monitored_.erase(client);
  std::vector<std::uint64_t> names;
  for (auto at = streams_.lower_bound({client, 0}); at != streams_.end() && at->first.first == client; ++at) {
    names.push_back(at->second);
  }
  for (const std::uint64_t name : names) end(name, EndReason::kCancelled, "its client is gone");
  schedule();
}

// The tokens count from here on, whatever dies: another Decoder goes on after them.
void Batcher::commit(Request& request, std::vector<StepToken> sampled) {
  for (StepToken& token : sampled) {
    request.tokens.push_back(token.token);
    if (request.penalties) request.penalties->count(token.token);
    const bool stops = std::ranges::find(request.stop_ids, token.token) != request.stop_ids.end();
    const std::uint32_t id = token.token;
    request.generated.push_back(std::move(token));
    if (stops) {
      request.whole = EndReason::kStop;
    } else if (request.generated.size() >= request.max_new_tokens) {
      request.whole = EndReason::kLength;
    }
    if (request.whole) break;
    if (Status follows = advance_constraint(request, id); !follows.ok()) {
      return end(request.name, EndReason::kFailed, std::move(follows).error().text);
    }
  }
  if (request.whole) unplace(request);
  stream_tokens(request);
}

// Sends what credit allows; ends the stream where nothing is left.
void Batcher::stream_tokens(Request& request) {
  const auto made = static_cast<std::uint32_t>(request.generated.size());
  const std::uint32_t count = std::min(made - request.sent, request.credits);
  if (count > 0) {
    TokensGenerated message;
    message.stream = request.stream;
    message.first_index = request.sent;
    message.alternative_count = static_cast<std::uint32_t>(request.generated[request.sent].alternatives.size());
    for (std::uint32_t i = request.sent; i < request.sent + count; ++i) {
      const StepToken& token = request.generated[i];
      message.ids.push_back(token.token);
      message.logprobs.push_back(token.logprob);
      message.logits_crcs.push_back(token.logits_crc);
      message.alternatives.insert(message.alternatives.end(), token.alternatives.begin(), token.alternatives.end());
    }
    request.sent += count;
    request.credits -= count;
    tell(runtime::RefTo<StreamProtocol>{request.client}, std::move(message));
  }
  if (request.whole && request.sent == made) end(request.name, *request.whole, "");
}

void Batcher::end(std::uint64_t name, EndReason reason, std::string text, runtime::ErrorKind kind) {
  const auto found = requests_.find(name);
  if (found == requests_.end()) return;
  const std::unique_ptr<Request> request = std::move(found->second);
  requests_.erase(found);
  cancel(request->deadline_timer);
  leave_queue(*request);
  unplace(*request);
  switch (request->kind) {
    case RequestKind::kGeneration:
      streams_.erase({request->client, request->stream});
      if (request->accept_reply) {
        return request->accept_reply->reject({reason == EndReason::kFailed ? kind : ErrorKind::kCancelled, text});
      }
      ++counters_->ended;
      tell(runtime::RefTo<StreamProtocol>{request->client},
           GenerationEnded{request->stream, reason, std::move(text), request->prompt_count, request->sent,
                           request->moves, request->waits, kind, request->cached_tokens.value_or(0),
                           request->preemptions, 0});
      break;
    case RequestKind::kLogits:
      if (request->logits_reply) {
        request->logits_reply->reject(
            {reason == EndReason::kDeadline ? ErrorKind::kTimedOut : ErrorKind::kInvalid, std::move(text)});
      }
      break;
    case RequestKind::kWarmUp:
      if (const auto job = warm_ups_.find(request->warm_up); job != warm_ups_.end()) {
        job->second->asked.erase(request->pinned);
        job->second->trouble = std::move(text);
      }
      break;
  }
}

void Batcher::on_deadline(std::uint64_t name) {
  const auto found = requests_.find(name);
  if (found == requests_.end()) return;
  end(name, EndReason::kDeadline, "the deadline passed " + state_in_words(*found->second));
  schedule();
}

std::string Batcher::state_in_words(const Request& request) const {
  const std::string made =
      "after " + std::to_string(request.generated.size()) + " of " + std::to_string(request.max_new_tokens) + " tokens";
  if (request.whole) return made + ", " + std::to_string(request.sent) + " of which the client gave credit for";
  if (request.accept_reply) return made + ", while its constraint was compiled";
  if (request.is_waiting) return made + ", while it waited: " + request.waiting_for;
  if (request.decoder.value == 0) {
    return made + (decoders_.empty() ? ", while no Decoder was there" : ", while it waited for its turn on a Decoder");
  }
  return made + ", while it was being computed";
}

}  // namespace consort::actors
