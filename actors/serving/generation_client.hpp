// TokenStream: the client's end of one generation: tokens in order and without gap, then its end, exactly once.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "actors/serving/generation_messages.hpp"
#include "runtime/actor.hpp"

namespace consort::actors {

struct GenerationRequest {
  std::vector<std::uint32_t> prompt;
  model::SamplingParams sampling;
  std::uint32_t max_new_tokens = 256;
  std::vector<std::uint32_t> stop_ids;  // empty: only max_new_tokens ends it
  std::chrono::milliseconds deadline = std::chrono::seconds(60);
  std::uint32_t window_tokens = 64;  // credit: tokens that may be under way to this client
  model::PenaltyParams penalties;
  model::ConstraintSpec constraint;
  std::int32_t priority = 0;
  std::string cache_salt;
};

struct GeneratedToken {
  std::uint32_t index = 0;
  std::uint32_t id = 0;
  float logprob = 0;
  std::uint32_t logits_crc = 0;
  std::vector<model::TokenLogprob> alternatives;
  bool operator==(const GeneratedToken&) const = default;
};

struct StreamEvents {
  std::function<void(std::uint32_t waiting_before)> accepted;  // may be empty
  std::function<void(const GeneratedToken&)> token;
  std::function<void(const GenerationEnded&)> ended;  // exactly once, last; also where the request was refused
};

// spawn_root with any type of its own, e.g. Role::kClient and a fresh index per stream; ends by itself after `ended`.
// cancel by stopping it through cancel() from its own loop.
class TokenStream final : public runtime::ActorOf<TokenStream, StreamProtocol> {
 public:
  // `stream` names it at the Batcher, once per client actor. `batcher` with incarnation and Role::kBatcher.
  TokenStream(runtime::RefTo<BatcherProtocol> batcher, std::uint64_t stream, GenerationRequest request,
              StreamEvents events);

  void on(TokensGenerated message);
  void on(GenerationEnded message);
  // Asks the Batcher to end it; `ended` comes as for any other end.
  void cancel();

 private:
  void on_start() override;
  void end(EndReason reason, std::string text, runtime::ErrorKind kind = runtime::ErrorKind::kInternal);
  void finish(const GenerationEnded& end);

  const runtime::RefTo<BatcherProtocol> batcher_;
  const std::uint64_t stream_;
  GenerationRequest request_;
  StreamEvents events_;
  std::uint32_t next_index_ = 0;
  std::uint32_t ungranted_ = 0;
  bool is_asked_ = false;
  bool is_cancelled_ = false;  // before it was asked for
  bool has_ended_ = false;
};

}  // namespace consort::actors
