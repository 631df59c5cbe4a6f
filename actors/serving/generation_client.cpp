#include "actors/serving/generation_client.hpp"

#include <algorithm>
#include <utility>

namespace consort::actors {

using runtime::Duration;
using runtime::Outcome;

namespace {

constexpr Duration kAcceptPatience = std::chrono::seconds(5);
// The Batcher ends a stream at its deadline; one that still says nothing this much later is gone without a trace.
constexpr Duration kEndGrace = std::chrono::seconds(5);

}  // namespace

TokenStream::TokenStream(runtime::RefTo<BatcherProtocol> batcher, std::uint64_t stream, GenerationRequest request,
                         StreamEvents events)
    : batcher_(batcher), stream_(stream), request_(std::move(request)), events_(std::move(events)) {}

void TokenStream::on_start() {
  if (is_cancelled_) return end(EndReason::kCancelled, "cancelled before it began");
  is_asked_ = true;
  GenerateTokens message;
  message.stream = stream_;
  message.prompt = request_.prompt;
  message.sampling = request_.sampling;
  message.max_new_tokens = request_.max_new_tokens;
  message.stop_ids = request_.stop_ids;
  message.deadline_ms = static_cast<std::uint32_t>(std::max<std::int64_t>(1, request_.deadline.count()));
  message.credits = std::max(1u, request_.window_tokens);
  message.penalties = request_.penalties;
  message.constraint = request_.constraint;
  message.priority = request_.priority;
  message.cache_salt = request_.cache_salt;
  monitor(batcher_.ref, [this](runtime::Down down) {
    end(EndReason::kFailed, "the Batcher is gone: " + describe(down.reason), runtime::ErrorKind::kPeerDown);
  });
  after(request_.deadline + kEndGrace,
        [this] { end(EndReason::kDeadline, "the deadline passed and the Batcher did not say how the request ended"); });
  ask(batcher_, std::move(message), kAcceptPatience).then([this](Outcome<GenerationAccepted> accepted) {
    if (!accepted.ok()) {
      // It may have arrived all the same; a stream that nobody reads must not run on.
      tell(batcher_, CancelGeneration{stream_});
      return end(EndReason::kFailed, accepted.error().text, accepted.error().kind);
    }
    if (accepted->come_again_ms != 0) {
      GenerationEnded full;
      full.stream = stream_;
      full.text = "the queue is full: " + std::to_string(accepted->waiting_before) + " requests wait already";
      full.prompt_tokens = static_cast<std::uint32_t>(request_.prompt.size());
      full.kind = runtime::ErrorKind::kExhausted;
      full.come_again_ms = accepted->come_again_ms;
      return finish(full);
    }
    if (!has_ended_ && events_.accepted) events_.accepted(accepted->waiting_before);
  });
}

void TokenStream::on(TokensGenerated message) {
  if (has_ended_ || message.stream != stream_) return;
  if (message.first_index != next_index_) {
    tell(batcher_, CancelGeneration{stream_});
    return end(EndReason::kFailed, "tokens are missing: " + std::to_string(message.first_index) + " came where " +
                                       std::to_string(next_index_) + " was due");
  }
  const std::size_t others = message.alternative_count;
  for (std::size_t i = 0; i < message.ids.size(); ++i) {
    GeneratedToken token{next_index_++, message.ids[i], message.logprobs[i], message.logits_crcs[i], {}};
    const auto first = message.alternatives.begin() + static_cast<std::ptrdiff_t>(i * others);
    token.alternatives.assign(first, first + static_cast<std::ptrdiff_t>(others));
    if (events_.token) events_.token(token);
  }
  ungranted_ += static_cast<std::uint32_t>(message.ids.size());
  if (2 * ungranted_ < request_.window_tokens) return;  // half a window at a time, not a grant per token
  tell(batcher_, GrantTokens{stream_, std::exchange(ungranted_, 0)});
}

void TokenStream::on(GenerationEnded message) {
  if (message.stream != stream_) return;
  const bool is_whole = message.reason == EndReason::kStop || message.reason == EndReason::kLength;
  if (is_whole && message.generated_tokens != next_index_) {
    return end(EndReason::kFailed, "the end came after " + std::to_string(next_index_) + " of " +
                                       std::to_string(message.generated_tokens) + " tokens");
  }
  finish(message);
}

void TokenStream::cancel() {
  if (has_ended_) return;
  if (!is_asked_) {
    is_cancelled_ = true;
    return;
  }
  tell(batcher_, CancelGeneration{stream_});
}

void TokenStream::end(EndReason reason, std::string text, runtime::ErrorKind kind) {
  finish({stream_, reason, std::move(text), static_cast<std::uint32_t>(request_.prompt.size()), next_index_, 0, 0, kind,
          0, 0, 0});
}

void TokenStream::finish(const GenerationEnded& end) {
  if (has_ended_) return;
  has_ended_ = true;
  if (events_.ended) events_.ended(end);
  stop();
}

}  // namespace consort::actors
