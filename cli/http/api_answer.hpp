// What the API says: errors, lists, whole answers and the chunks of a stream, as JSON text. Pure.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "actors/serving/request_port.hpp"
#include "cli/http/api_request.hpp"

namespace consort::cli {

// {"error": {...}}
std::string error_json(const Refusal& refusal);
// How a work that failed is answered: status, type, code.
Refusal refusal_of(const actors::WorkFailed& failed);
// May a client send it again as it is? What passes by itself; not a deadline, which would only pass again.
bool is_worth_retrying(const Refusal& refusal);
// The refusal of a call that asks for another model than the one that is served.
std::optional<Refusal> other_model(std::string_view asked, std::string_view served);

std::string model_json(std::string_view model, std::int64_t created);
std::string models_json(std::string_view model, std::int64_t created);
std::string version_json(std::string_view version);
std::string health_json(const actors::ServingState& state);
std::string encoded_json(const actors::Encoded& encoded, std::uint32_t context_tokens);
std::string decoded_json(const actors::Decoded& decoded);

// The answer to one call, made of the Gateway's events: events of a stream as they come, or a body at the end.
class AnswerWriter {
 public:
  struct Head {
    std::string id;  // without its "chatcmpl-" or "cmpl-"
    std::int64_t created = 0;
    std::string model;
  };
  AnswerWriter(const AnswerCall& call, Head head);

  // What goes out now as SSE; nothing where the call is no stream. After the last event "data: [DONE]" is part of it,
  // after a failure it is not.
  std::string stream(const actors::PortEvent& event);
  // For a call that is no stream: gathers; body() is the answer once AnswerEnded was gathered.
  void gather(const actors::PortEvent& event);
  std::string body() const;
  const actors::AnswerUsage& usage() const { return usage_; }

 private:
  struct Choice {
    std::string reasoning;
    std::string content;
    std::string finish;
    std::vector<actors::ToolCallPiece> calls;  // whole ones
    std::vector<actors::TokenDetail> reasoning_tokens;
    std::vector<actors::TokenDetail> content_tokens;
    std::size_t text_offset = 0;  // of the next token, for completions
  };
  std::string chat_chunks(const actors::PortEvent& event);
  std::string completion_chunks(const actors::PortEvent& event);

  AnswerShape shape_;
  Head head_;
  bool includes_usage_;
  bool has_logprobs_;
  std::vector<Choice> choices_;
  actors::AnswerUsage usage_;
};

// Said now and then while nothing else is to be said: keeps proxies and clients waiting.
inline constexpr std::string_view kKeepAlive = ": waiting\n\n";

}  // namespace consort::cli
