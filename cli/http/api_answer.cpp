#include "cli/http/api_answer.hpp"

#include <algorithm>
#include <boost/json.hpp>

#include "model/text/utf8.hpp"

namespace consort::cli {

namespace json = boost::json;
using actors::PortEvent;

namespace {

template <class... Handlers>
struct Cases : Handlers... {
  using Handlers::operator()...;
};
template <class... Handlers>
Cases(Handlers...) -> Cases<Handlers...>;

// OpenAI's word for "very unlikely"; JSON has no infinity.
constexpr float kLeastLogprob = -9999.0F;

json::value text_or_null(const std::string& text) { return text.empty() ? json::value(nullptr) : json::value(text); }

std::string shown(const std::string& bytes) {
  std::string text;
  model::Utf8Repair repair;
  repair.add(bytes, text);
  repair.finish(text);
  return text;
}

float finite(float logprob) { return logprob > kLeastLogprob ? logprob : kLeastLogprob; }

json::object token_json(const actors::TokenDetail& token) {
  json::array bytes;
  for (const char byte : token.bytes) bytes.emplace_back(static_cast<std::uint8_t>(byte));
  return {{"token", shown(token.bytes)}, {"logprob", finite(token.logprob)}, {"bytes", std::move(bytes)}};
}

json::array tokens_json(std::span<const actors::TokenDetail> tokens) {
  json::array list;
  for (const auto& token : tokens) {
    json::object entry = token_json(token);
    json::array others;
    for (const auto& other : token.alternatives) others.push_back(token_json(other));
    entry["top_logprobs"] = std::move(others);
    list.push_back(std::move(entry));
  }
  return list;
}

json::value chat_logprobs(bool wanted, std::span<const actors::TokenDetail> content,
                          std::span<const actors::TokenDetail> reasoning) {
  if (!wanted) return nullptr;
  json::object all{{"content", tokens_json(content)}, {"refusal", nullptr}};
  if (!reasoning.empty()) all["reasoning_content"] = tokens_json(reasoning);
  return all;
}

// The legacy shape: parallel lists. `offset` is that of the first token in the text.
json::value completion_logprobs(bool wanted, std::span<const actors::TokenDetail> tokens, std::size_t offset) {
  if (!wanted) return nullptr;
  json::array texts, logprobs, offsets, others;
  for (const auto& token : tokens) {
    const std::string text = shown(token.bytes);
    texts.emplace_back(text);
    logprobs.emplace_back(finite(token.logprob));
    offsets.emplace_back(offset);
    offset += text.size();
    json::object alternatives;
    for (const auto& other : token.alternatives) alternatives[shown(other.bytes)] = finite(other.logprob);
    others.push_back(std::move(alternatives));
  }
  return json::object{{"tokens", std::move(texts)},
                      {"token_logprobs", std::move(logprobs)},
                      {"text_offset", std::move(offsets)},
                      {"top_logprobs", std::move(others)}};
}

json::object usage_json(const actors::AnswerUsage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"prompt_cache_hit_tokens", usage.cached_tokens},  // DeepSeek's names of the same
          {"prompt_cache_miss_tokens", usage.prompt_tokens - usage.cached_tokens},
          {"completion_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}}};
}

std::string sse(const json::value& value) { return "data: " + json::serialize(value) + "\n\n"; }
constexpr std::string_view kDone = "data: [DONE]\n\n";

json::object model_object(std::string_view model, std::int64_t created) {
  return {{"id", model}, {"object", "model"}, {"created", created}, {"owned_by", "consort"}};
}

json::object error_object(const Refusal& refusal) {
  return {{"error",
           {{"message", refusal.message},
            {"type", refusal.type},
            {"param", text_or_null(refusal.param)},
            {"code", text_or_null(refusal.code)}}}};
}

const char* finish_name(actors::Finish finish) {
  switch (finish) {
    case actors::Finish::kLength:
      return "length";
    case actors::Finish::kToolCalls:
      return "tool_calls";
    case actors::Finish::kStop:
      break;
  }
  return "stop";
}

// One piece of a call as clients join them: what is said once comes in its first delta only.
json::object call_delta(const actors::ToolCallPiece& call) {
  json::object function;
  json::object delta{{"index", call.index}};
  if (!call.name.empty()) {
    delta["id"] = call.id;
    delta["type"] = "function";
    function["name"] = call.name;
  }
  function["arguments"] = call.arguments;
  delta["function"] = std::move(function);
  return delta;
}

}  // namespace

std::string error_json(const Refusal& refusal) { return json::serialize(error_object(refusal)); }

Refusal refusal_of(const actors::WorkFailed& failed) {
  switch (failed.kind) {
    case actors::WorkFailure::kInvalid:
      return {400, "invalid_request_error", "", failed.param, failed.text};
    case actors::WorkFailure::kTooLong:
      return {400, "invalid_request_error", "context_length_exceeded", "messages", failed.text};
    case actors::WorkFailure::kBusy:
      return {429,
              "rate_limit_error",
              "rate_limit_exceeded",
              "",
              failed.text,
              std::max<std::int64_t>(1, std::chrono::ceil<std::chrono::seconds>(failed.come_again).count())};
    case actors::WorkFailure::kUnavailable:
      return {503, "unavailable_error", "unavailable", "", failed.text};
    case actors::WorkFailure::kDeadline:
      return {504, "server_error", "deadline_exceeded", "", failed.text};
    case actors::WorkFailure::kInternal:
      break;
  }
  return {500, "server_error", "", "", failed.text};
}

bool is_worth_retrying(const Refusal& refusal) { return refusal.status == 429 || refusal.status == 503; }

std::optional<Refusal> other_model(std::string_view asked, std::string_view served) {
  if (asked == served) return std::nullopt;
  return Refusal{
      404, "not_found_error", "model_not_found", "model",
      "there is no model '" + std::string(asked.substr(0, 128)) + "' here; there is '" + std::string(served) + "'"};
}

std::string model_json(std::string_view model, std::int64_t created) {
  return json::serialize(model_object(model, created));
}

std::string models_json(std::string_view model, std::int64_t created) {
  return json::serialize(json::object{{"object", "list"}, {"data", json::array{model_object(model, created)}}});
}

std::string version_json(std::string_view version) { return json::serialize(json::object{{"version", version}}); }

std::string health_json(const actors::ServingState& state) {
  if (state.serves) return R"({"status":"ok"})";
  return json::serialize(json::object{{"status", "unavailable"}, {"why", state.why}});
}

std::string encoded_json(const actors::Encoded& encoded, std::uint32_t context_tokens) {
  return json::serialize(json::object{{"count", encoded.ids.size()},
                                      {"max_model_len", context_tokens},
                                      {"tokens", json::array(encoded.ids.begin(), encoded.ids.end())}});
}

std::string decoded_json(const actors::Decoded& decoded) {
  return json::serialize(json::object{{"prompt", decoded.text}});
}

// --- answers ---------------------------------------------------------------------------------------------------------

AnswerWriter::AnswerWriter(const AnswerCall& call, Head head)
    : shape_(call.shape),
      head_(std::move(head)),
      includes_usage_(call.include_usage),
      has_logprobs_(call.request.wants_logprobs),
      choices_(call.request.choices * call.request.prompts.size()) {
  head_.id = (shape_ == AnswerShape::kChat ? "chatcmpl-" : "cmpl-") + head_.id;
}

std::string AnswerWriter::stream(const PortEvent& event) {
  if (const auto* ended = std::get_if<actors::AnswerEnded>(&event)) usage_ = ended->usage;
  if (const auto* failed = std::get_if<actors::WorkFailed>(&event)) return sse(error_object(refusal_of(*failed)));
  return shape_ == AnswerShape::kChat ? chat_chunks(event) : completion_chunks(event);
}

std::string AnswerWriter::chat_chunks(const PortEvent& event) {
  const auto chunk = [&](json::array choices) {
    json::object object{{"id", head_.id},
                        {"object", "chat.completion.chunk"},
                        {"created", head_.created},
                        {"model", head_.model},
                        {"choices", std::move(choices)}};
    if (includes_usage_) object["usage"] = nullptr;
    return object;
  };
  const auto one = [&](std::uint32_t index, json::object delta, json::value logprobs, json::value finish) {
    return sse(chunk({json::object{{"index", index},
                                   {"delta", std::move(delta)},
                                   {"logprobs", std::move(logprobs)},
                                   {"finish_reason", std::move(finish)}}}));
  };
  return std::visit(
      Cases{[&](const actors::AnswerStarted&) {
              // Clients join deltas by adding strings: the role comes once, in order of the choices.
              std::string text;
              for (std::uint32_t i = 0; i < choices_.size(); ++i) {
                text += one(i, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr);
              }
              return text;
            },
            [&](const actors::AnswerPiece& piece) {
              json::object delta;
              if (!piece.reasoning.empty()) delta["reasoning_content"] = piece.reasoning;
              if (!piece.content.empty()) delta["content"] = piece.content;
              if (!piece.calls.empty()) {
                json::array calls;
                for (const auto& call : piece.calls) calls.push_back(call_delta(call));
                delta["tool_calls"] = std::move(calls);
              }
              json::value logprobs;
              if (piece.token) {
                const std::span<const actors::TokenDetail> token(&*piece.token, 1);
                const std::span<const actors::TokenDetail> none;
                logprobs = chat_logprobs(true, piece.of_thought ? none : token, piece.of_thought ? token : none);
              }
              return one(piece.choice, std::move(delta), std::move(logprobs), nullptr);
            },
            [&](const actors::ChoiceEnded& end) { return one(end.choice, {}, nullptr, finish_name(end.finish)); },
            [&](const actors::AnswerEnded&) {
              std::string text;
              if (includes_usage_) {
                json::object last = chunk({});
                last["usage"] = usage_json(usage_);
                text = sse(last);
              }
              return text + std::string(kDone);
            },
            [](const auto&) { return std::string(); }},
      event);
}

std::string AnswerWriter::completion_chunks(const PortEvent& event) {
  const auto chunk = [&](json::array choices) {
    json::object object{{"id", head_.id},
                        {"object", "text_completion"},
                        {"created", head_.created},
                        {"model", head_.model},
                        {"choices", std::move(choices)}};
    if (includes_usage_) object["usage"] = nullptr;
    return object;
  };
  const auto one = [&](std::uint32_t index, const std::string& text, json::value logprobs, json::value finish) {
    return sse(chunk({json::object{
        {"index", index}, {"text", text}, {"logprobs", std::move(logprobs)}, {"finish_reason", std::move(finish)}}}));
  };
  return std::visit(
      Cases{[&](const actors::AnswerPiece& piece) {
              json::value logprobs;
              if (piece.token) {
                std::size_t& offset = choices_[piece.choice].text_offset;
                logprobs = completion_logprobs(true, std::span(&*piece.token, 1), offset);
                offset += shown(piece.token->bytes).size();
              }
              return one(piece.choice, piece.content, std::move(logprobs), nullptr);
            },
            [&](const actors::ChoiceEnded& end) { return one(end.choice, "", nullptr, finish_name(end.finish)); },
            [&](const actors::AnswerEnded&) {
              std::string text;
              if (includes_usage_) {
                json::object last = chunk({});
                last["usage"] = usage_json(usage_);
                text = sse(last);
              }
              return text + std::string(kDone);
            },
            [](const auto&) { return std::string(); }},
      event);
}

void AnswerWriter::gather(const PortEvent& event) {
  std::visit(Cases{[&](const actors::AnswerPiece& piece) {
                     Choice& choice = choices_.at(piece.choice);
                     choice.reasoning += piece.reasoning;
                     choice.content += piece.content;
                     for (const auto& call : piece.calls) {
                       if (call.index >= choice.calls.size()) choice.calls.resize(call.index + 1);
                       auto& whole = choice.calls[call.index];
                       whole.id += call.id;
                       whole.name += call.name;
                       whole.arguments += call.arguments;
                     }
                     if (piece.token)
                       (piece.of_thought ? choice.reasoning_tokens : choice.content_tokens).push_back(*piece.token);
                   },
                   [&](const actors::ChoiceEnded& end) { choices_.at(end.choice).finish = finish_name(end.finish); },
                   [&](const actors::AnswerEnded& end) { usage_ = end.usage; }, [](const auto&) {}},
             event);
}

std::string AnswerWriter::body() const {
  const bool is_chat = shape_ == AnswerShape::kChat;
  json::array choices;
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    const Choice& choice = choices_[i];
    json::object object{{"index", i}};
    if (is_chat) {
      json::object message{{"role", "assistant"}, {"content", choice.content}, {"refusal", nullptr}};
      if (!choice.reasoning.empty()) message["reasoning_content"] = choice.reasoning;
      if (!choice.calls.empty()) {
        if (choice.content.empty()) message["content"] = nullptr;
        json::array calls;
        for (const auto& call : choice.calls) {
          calls.push_back({{"id", call.id},
                           {"type", "function"},
                           {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
        }
        message["tool_calls"] = std::move(calls);
      }
      object["message"] = std::move(message);
      object["logprobs"] = chat_logprobs(has_logprobs_, choice.content_tokens, choice.reasoning_tokens);
    } else {
      object["text"] = choice.content;
      object["logprobs"] = completion_logprobs(has_logprobs_, choice.content_tokens, 0);
    }
    object["finish_reason"] = choice.finish;
    choices.push_back(std::move(object));
  }
  return json::serialize(json::object{{"id", head_.id},
                                      {"object", is_chat ? "chat.completion" : "text_completion"},
                                      {"created", head_.created},
                                      {"model", head_.model},
                                      {"choices", std::move(choices)},
                                      {"usage", usage_json(usage_)}});
}

}  // namespace consort::cli
