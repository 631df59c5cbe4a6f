// What a body of the API asks for: JSON to a checked request, or the refusal to answer with. Pure functions of the
// text. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "actors/serving/request_port.hpp"

namespace consort::cli {

// An error as OpenAI's clients expect it. `param` names the field, where there is one.
struct Refusal {
  int status = 400;
  std::string type = "invalid_request_error";
  std::string code;  // empty: null
  std::string param;
  std::string message;
  std::int64_t retry_after_seconds = 1;  // of one that is worth sending again
};
template <class T>
using OrRefusal = std::variant<T, Refusal>;

enum class AnswerShape : std::uint8_t { kChat, kCompletion };

// Of /v1/chat/completions and /v1/completions.
struct AnswerCall {
  AnswerShape shape = AnswerShape::kChat;
  std::string model;
  actors::AnswerRequest request;
  bool stream = false;
  bool include_usage = false;
};
struct EncodeCall {
  std::string model;  // empty: not named
  actors::EncodeRequest request;
};
struct DecodeCall {
  std::string model;
  actors::DecodeRequest request;
};

// Limits of one request; the body's bytes are limited before.
inline constexpr std::size_t kMaxRequestDepth = 32;    // objects in objects; what the API defines nests six deep
inline constexpr std::size_t kMaxMessages = 4096;      // turns of a chat
inline constexpr std::size_t kMaxContentParts = 1024;  // of one message
inline constexpr std::size_t kMaxStops = 4;            // as in OpenAI's API
inline constexpr std::size_t kMaxStopBytes = 1024;     // each is looked for at every token
inline constexpr std::int64_t kMaxChoices = 16;        // of one prompt: each is a request at the Batcher, which runs 64
inline constexpr std::size_t kMaxPrompts = 16;         // of one completion, for the same reason

OrRefusal<AnswerCall> decode_chat(std::string_view body);
OrRefusal<AnswerCall> decode_completion(std::string_view body);
OrRefusal<EncodeCall> decode_encode(std::string_view body);
OrRefusal<DecodeCall> decode_decode(std::string_view body);

}  // namespace consort::cli
