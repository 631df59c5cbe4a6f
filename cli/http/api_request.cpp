#include "cli/http/api_request.hpp"

#include <boost/json.hpp>
#include <charconv>
#include <cmath>
#include <set>

#include "actors/serving/generation_messages.hpp"
#include "cli/http/api_fields-inl.hpp"
#include "cli/http/api_tools-inl.hpp"
#include "model/json_text.hpp"

namespace consort::cli {

namespace json = boost::json;

namespace {

constexpr std::int64_t kMaxTokenLimit = 1 << 20;  // no model's context is longer
constexpr std::int64_t kMaxTopK = 1 << 20;        // no vocabulary is larger
constexpr double kLeastRepetitionPenalty = 0.01;  // model::kLeastRepetitionPenalty, not rounded to F32
constexpr std::size_t kMaxSaltBytes = 256;        // a key's name comes before it

OrRefusal<json::value> parse_body(std::string_view body) {
  const auto bad = [](std::string why) {
    return Refusal{400, "invalid_request_error", "invalid_json", "",
                   "the body is not a JSON object: " + std::move(why)};
  };
  if (auto checked = model::check_json(body, "body", kMaxRequestDepth); !checked.ok()) return bad(checked.error().text);
  json::parse_options options;
  options.max_depth = kMaxRequestDepth;
  json::error_code code;
  json::value value = json::parse(body, code, {}, options);
  if (code) return bad(code.message());
  if (!value.is_object()) return bad("it is another value");
  return value;
}

// --- messages --------------------------------------------------------------------------------------------------------

void read_content(Fields& message, model::ChatRole role, std::string& out) {
  const json::value* content = message.find("content");
  if (content == nullptr) {
    if (role != model::ChatRole::kAssistant) message.refuse("content", "is missing");
    return;
  }
  if (content->is_string()) {
    out = std::string_view(content->as_string());
    return;
  }
  if (!content->is_array()) return message.refuse("content", "must be a text or a list of parts");
  if (content->as_array().size() > kMaxContentParts) return message.refuse("content", "has too many parts");
  std::size_t index = 0;
  for (const json::value& part : content->as_array()) {
    const std::string path = message.path() + "content[" + std::to_string(index++) + "]";
    if (!part.is_object()) return message.refuse("content", "must hold objects");
    Fields fields(part.as_object(), path + ".", message.refusal());
    std::string type, text;
    fields.read("type", type);
    if (type != "text")
      return fields.refuse("type", "must be \"text\": this model reads nothing else", "unsupported_parameter");
    if (fields.need("text") != nullptr) fields.read("text", text);
    fields.finish();
    out += text;
  }
}

void read_message(const json::value& value, std::size_t index, std::optional<Refusal>& refusal, ToolTurns& turns,
                  std::vector<model::ChatMessage>& out) {
  const std::string path = "messages[" + std::to_string(index) + "]";
  if (!value.is_object()) {
    refusal = Refusal{400, "invalid_request_error", "", path, "'" + path + "' must be an object"};
    return;
  }
  Fields fields(value.as_object(), path + ".", refusal);
  std::string role;
  if (fields.need("role") != nullptr) fields.read("role", role);
  if (refusal) return;
  const auto known = model::chat_role_from_name(role == "developer" ? "system" : role);
  if (!known.ok()) return fields.refuse("role", "must be one of developer, system, user, assistant, tool");
  if (*known != model::ChatRole::kTool && !turns.is_answered()) {
    return fields.refuse("role", "comes where call '" + turns.first_unanswered() + "' of a tool has no answer yet");
  }
  model::ChatMessage message{*known, ""};
  read_content(fields, *known, message.content);
  if (*known == model::ChatRole::kAssistant) {
    // Earlier thoughts are no part of the context (DeepSeek's rule), and clients send back what they were given.
    fields.ignore("reasoning_content");
    fields.ignore("reasoning");
    read_tool_calls(fields, message, turns);
    for (const char* key : {"refusal", "audio", "annotations", "function_call"}) {
      fields.only(key, is_empty, "cannot be given here");
    }
  }
  if (*known == model::ChatRole::kTool) read_tool_answer(fields, turns);
  fields.only(
      "name", [](const json::value&) { return false; }, "has no place in this model's chat format");
  fields.finish();
  out.push_back(std::move(message));
  if (*known == model::ChatRole::kTool) turns.put_in_order(out);
}

void read_messages(Fields& fields, std::vector<model::ChatMessage>& out) {
  const json::value* messages = fields.need("messages");
  if (messages == nullptr) return;
  if (!messages->is_array() || messages->as_array().empty() || messages->as_array().size() > kMaxMessages) {
    return fields.refuse("messages", "must be a list of 1 to " + std::to_string(kMaxMessages) + " messages");
  }
  std::size_t index = 0;
  ToolTurns turns;
  for (const json::value& message : messages->as_array()) {
    read_message(message, index++, fields.refusal(), turns, out);
    if (fields.refusal()) return;
  }
}

// chat_template_kwargs {"thinking": bool}, thinking {"type": "enabled"}, reasoning_effort.
std::optional<bool> read_thinking(Fields& fields) {
  std::optional<bool> thinking;
  const auto says = [&](std::string_view key, bool value) {
    if (thinking && *thinking != value) fields.refuse(key, "says the opposite of another field");
    thinking = value;
  };
  if (const json::value* effort = fields.find("reasoning_effort")) {
    if (!is_text(*effort, {"none", "minimal", "low", "medium", "high", "xhigh", "max"})) {
      fields.refuse("reasoning_effort", "must be one of none, minimal, low, medium, high, xhigh, max");
    } else {
      says("reasoning_effort", !is_text(*effort, {"none"}));  // the model knows no degrees, only with or without
    }
  }
  if (const json::value* switches = fields.find("chat_template_kwargs")) {
    if (!switches->is_object()) {
      fields.refuse("chat_template_kwargs", "must be an object");
    } else {
      Fields inner(switches->as_object(), "chat_template_kwargs.", fields.refusal());
      bool value = false;
      for (const char* key : {"thinking", "enable_thinking"}) {
        if (inner.find(key) == nullptr) continue;
        inner.read(key, value);
        says("chat_template_kwargs", value);
      }
      inner.finish();
    }
  }
  if (const json::value* given = fields.find("thinking")) {
    if (!given->is_object()) {
      fields.refuse("thinking", "must be an object");
    } else {
      Fields inner(given->as_object(), "thinking.", fields.refusal());
      const json::value* type = inner.need("type");
      if (type != nullptr && !is_text(*type, {"enabled", "disabled"})) {
        inner.refuse("type", "must be \"enabled\" or \"disabled\"");
      } else if (type != nullptr) {
        says("thinking", is_text(*type, {"enabled"}));
      }
      inner.finish();
    }
  }
  return thinking;
}

// --- what both kinds of answers share --------------------------------------------------------------------------------

void read_stops(Fields& fields, std::vector<std::string>& out) {
  const json::value* stop = fields.find("stop");
  if (stop == nullptr) return;
  const std::string what = "must be a text or a list of up to " + std::to_string(kMaxStops) + " texts, each of 1 to " +
                           std::to_string(kMaxStopBytes) + " bytes";
  const auto add = [&](const json::value& text) {
    if (!text.is_string() || text.as_string().empty() || text.as_string().size() > kMaxStopBytes) return false;
    out.emplace_back(text.as_string());
    return true;
  };
  if (stop->is_string() ? add(*stop) : false) return;
  if (!stop->is_array() || stop->as_array().size() > kMaxStops) return fields.refuse("stop", what);
  for (const json::value& text : stop->as_array()) {
    if (!add(text)) return fields.refuse("stop", what);
  }
}

// {"token id": bias}
void read_logit_bias(Fields& fields, std::vector<model::TokenBias>& out) {
  const json::value* given = fields.find("logit_bias");
  if (given == nullptr) return;
  const double most = model::kMaxLogitBias;
  const std::string what = "must be an object of up to " + std::to_string(model::kMaxLogitBiases) +
                           " token ids, each with a number from -100 to 100";
  if (!given->is_object() || given->as_object().size() > model::kMaxLogitBiases)
    return fields.refuse("logit_bias", what);
  std::set<std::uint32_t> named;
  for (const auto& [key, value] : given->as_object()) {
    std::uint32_t token = 0;
    const std::string_view digits(key);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), token);
    const double bias = value.is_double()  ? value.as_double()
                        : value.is_int64() ? static_cast<double>(value.as_int64())
                                           : std::nan("");
    const bool fits = error == std::errc() && end == digits.data() + digits.size() && bias >= -most && bias <= most;
    if (!fits || !named.insert(token).second) return fields.refuse("logit_bias", what);
    out.push_back({token, static_cast<float>(bias)});
  }
}

void read_sampling(Fields& fields, actors::AnswerRequest& request) {
  model::SamplingParams& sampling = request.sampling;
  fields.number("temperature", 0, 2, false, sampling.temperature);
  fields.number("top_p", 0, 1, true, sampling.top_p);
  fields.number("min_p", 0, 1, false, sampling.min_p);
  if (const auto top_k = fields.integer("top_k", -1, kMaxTopK)) {
    sampling.top_k = static_cast<std::int32_t>(std::max<std::int64_t>(0, *top_k));  // -1 is vLLM's "all"
  }
  if (const auto seed = fields.integer("seed", INT64_MIN, INT64_MAX)) request.seed = static_cast<std::uint64_t>(*seed);
  if (const auto n = fields.integer("n", 1, kMaxChoices)) request.choices = static_cast<std::uint32_t>(*n);
  read_stops(fields, request.stops);
  fields.read("ignore_eos", request.ignore_eos);
  const auto not_yet = std::string("is not supported yet");
  const auto zero = [](const json::value& v) { return is_number(v, 0); };
  model::PenaltyParams& penalties = request.penalties;
  const double most = model::kMaxPenalty;
  fields.number("presence_penalty", -most, most, false, penalties.presence_penalty);
  fields.number("frequency_penalty", -most, most, false, penalties.frequency_penalty);
  fields.number("repetition_penalty", kLeastRepetitionPenalty, model::kMaxRepetitionPenalty, false,
                penalties.repetition_penalty);
  read_logit_bias(fields, penalties.logit_bias);
  if (const auto priority = fields.integer("priority", -actors::kMaxPriority, actors::kMaxPriority)) {
    request.priority = static_cast<std::int32_t>(*priority);
  }
  fields.read("cache_salt", request.cache_salt);
  if (request.cache_salt.size() > kMaxSaltBytes) {
    fields.refuse("cache_salt", "must be a text of at most " + std::to_string(kMaxSaltBytes) + " bytes");
  }
  fields.only("min_tokens", zero, not_yet);
  for (const char* key : {"user", "metadata", "store", "safety_identifier", "prompt_cache_key", "service_tier"})
    fields.ignore(key);
}

void read_stream(Fields& fields, AnswerCall& call) {
  fields.read("stream", call.stream);
  const json::value* options = fields.find("stream_options");
  if (options == nullptr) return;
  if (!call.stream) return fields.refuse("stream_options", "goes with stream = true only");
  if (!options->is_object()) return fields.refuse("stream_options", "must be an object");
  Fields inner(options->as_object(), "stream_options.", fields.refusal());
  inner.read("include_usage", call.include_usage);
  inner.only("include_obfuscation", is_false, "is not supported");
  inner.finish();
}

void read_max_tokens(Fields& fields, actors::AnswerRequest& request) {
  const auto old_name = fields.integer("max_tokens", 1, kMaxTokenLimit);
  const auto new_name = fields.integer("max_completion_tokens", 1, kMaxTokenLimit);
  if (old_name && new_name && *old_name != *new_name) {
    return fields.refuse("max_tokens", "and 'max_completion_tokens' are two names of one thing, and differ");
  }
  if (old_name || new_name) request.max_tokens = static_cast<std::uint32_t>(new_name ? *new_name : *old_name);
}

bool read_ids(const json::value& value, std::vector<std::int32_t>& out) {
  if (!value.is_array()) return false;
  for (const json::value& id : value.as_array()) {
    if (!id.is_int64() || id.as_int64() < 0 || id.as_int64() > INT32_MAX) return false;
    out.push_back(static_cast<std::int32_t>(id.as_int64()));
  }
  return true;
}

// A text, texts, ids, or lists of ids.
void read_prompts(Fields& fields, std::vector<actors::Prompt>& out) {
  const json::value* prompt = fields.need("prompt");
  if (prompt == nullptr) return;
  const std::string what =
      "must be a text, a list of token ids, or a list of up to " + std::to_string(kMaxPrompts) + " of these";
  const auto add = [&](const json::value& one) {
    if (one.is_string()) {
      out.emplace_back(actors::TextPrompt{std::string(one.as_string()), true});
      return true;
    }
    actors::IdsPrompt ids;
    if (!read_ids(one, ids.ids) || ids.ids.empty()) return false;
    out.emplace_back(std::move(ids));
    return true;
  };
  const bool is_list = prompt->is_array() && !prompt->as_array().empty() && !prompt->as_array().front().is_int64();
  if (!is_list) {
    if (!add(*prompt)) fields.refuse("prompt", what);
    return;
  }
  if (prompt->as_array().size() > kMaxPrompts) return fields.refuse("prompt", what);
  for (const json::value& one : prompt->as_array()) {
    if (!add(one)) return fields.refuse("prompt", what);
  }
}

template <class Call, class Read>
OrRefusal<Call> decode(std::string_view body, Read read) {
  auto parsed = parse_body(body);
  if (auto* refused = std::get_if<Refusal>(&parsed)) return std::move(*refused);
  std::optional<Refusal> refusal;
  Call call;
  Fields fields(std::get<json::value>(parsed).as_object(), "", refusal);
  read(fields, call);
  fields.finish();
  if (refusal) return std::move(*refusal);
  return call;
}

}  // namespace

OrRefusal<AnswerCall> decode_chat(std::string_view body) {
  return decode<AnswerCall>(body, [](Fields& fields, AnswerCall& call) {
    call.shape = AnswerShape::kChat;
    call.request.splits_thoughts = true;
    if (fields.need("model") != nullptr) fields.read("model", call.model);
    actors::ChatPrompt chat;
    read_messages(fields, chat.messages);
    chat.thinking = read_thinking(fields);
    read_tools(fields, chat, call.request.tool_use);
    call.request.prompts.emplace_back(std::move(chat));
    read_max_tokens(fields, call.request);
    read_sampling(fields, call.request);
    read_response_format(fields, call.request);
    read_stream(fields, call);
    fields.read("logprobs", call.request.wants_logprobs);
    if (const auto top = fields.integer("top_logprobs", 0, model::kMaxTopLogprobs)) {
      if (*top > 0 && !call.request.wants_logprobs) fields.refuse("top_logprobs", "goes with logprobs = true only");
      call.request.sampling.top_logprobs = static_cast<std::int32_t>(*top);
    }
    const std::string not_yet = "is not supported; write 'tools'";
    fields.only("functions", is_empty, not_yet);
    fields.only(
        "function_call",
        [](const json::value& v) {
          return is_text(v, {"none", "auto"});
        },
        not_yet);
    fields.only(
        "modalities",
        [](const json::value& v) {
          return v.is_array() && v.as_array().size() == 1 && is_text(v.as_array()[0], {"text"});
        },
        "other than [\"text\"] is not supported");
  });
}

OrRefusal<AnswerCall> decode_completion(std::string_view body) {
  return decode<AnswerCall>(body, [](Fields& fields, AnswerCall& call) {
    call.shape = AnswerShape::kCompletion;
    if (fields.need("model") != nullptr) fields.read("model", call.model);
    read_prompts(fields, call.request.prompts);
    call.request.max_tokens = 16;  // OpenAI's default of this endpoint
    read_max_tokens(fields, call.request);
    read_sampling(fields, call.request);
    read_stream(fields, call);
    if (const auto top = fields.integer("logprobs", 0, model::kMaxTopLogprobs)) {
      call.request.wants_logprobs = true;
      call.request.sampling.top_logprobs = static_cast<std::int32_t>(*top);
    }
    fields.only("echo", is_false, "is not supported yet");
    fields.only(
        "suffix", [](const json::value& v) { return is_text(v, {""}); }, "is not supported yet");
    fields.only(
        "best_of", [&](const json::value& v) { return is_number(v, static_cast<double>(call.request.choices)); },
        "other than n is not supported");
  });
}

OrRefusal<EncodeCall> decode_encode(std::string_view body) {
  return decode<EncodeCall>(body, [](Fields& fields, EncodeCall& call) {
    fields.read("model", call.model);
    if (fields.find("messages") != nullptr) {
      actors::ChatPrompt chat;
      read_messages(fields, chat.messages);
      fields.read("add_generation_prompt", chat.add_generation_prompt);
      chat.thinking = read_thinking(fields);
      call.request.prompt = std::move(chat);
      return;
    }
    actors::TextPrompt text;
    if (fields.need("prompt") != nullptr) fields.read("prompt", text.text);
    fields.read("add_special_tokens", text.add_special_tokens);
    call.request.prompt = std::move(text);
  });
}

OrRefusal<DecodeCall> decode_decode(std::string_view body) {
  return decode<DecodeCall>(body, [](Fields& fields, DecodeCall& call) {
    fields.read("model", call.model);
    const json::value* tokens = fields.need("tokens");
    if (tokens != nullptr && !read_ids(*tokens, call.request.ids))
      fields.refuse("tokens", "must be a list of token ids");
  });
}

}  // namespace consort::cli
