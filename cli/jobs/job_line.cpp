#include "cli/jobs/job_line.hpp"

#include <boost/json.hpp>
#include <charconv>

#include "cli/http/api_answer.hpp"
#include "model/json_text.hpp"

namespace consort::cli {

namespace json = boost::json;
using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;

namespace {

constexpr std::size_t kLineDepth = kMaxRequestDepth + 1;  // the body is one level down
constexpr std::string_view kIdStart = "batch_req_";

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

// The letters of a value of the outermost object. The text is a JSON object that was checked; a key with escapes in it
// is not found.
std::string_view letters_of(std::string_view text, std::string_view key) {
  std::size_t at = text.find('{') + 1;
  const auto skip_spaces = [&] {
    while (at < text.size() && is_space(text[at])) ++at;
  };
  const auto skip_text = [&] {  // at its first quote
    for (++at; text[at] != '"'; ++at) {
      if (text[at] == '\\') ++at;
    }
    ++at;
  };
  for (skip_spaces(); at < text.size() && text[at] == '"'; skip_spaces()) {
    const std::size_t key_begin = at;
    skip_text();
    const std::string_view name = text.substr(key_begin + 1, at - key_begin - 2);
    at = text.find(':', at) + 1;
    skip_spaces();
    const std::size_t begin = at;
    int depth = 0;
    while (depth > 0 || (text[at] != ',' && text[at] != '}')) {
      if (text[at] == '"') {
        skip_text();
        continue;
      }
      if (text[at] == '{' || text[at] == '[') ++depth;
      if (text[at] == '}' || text[at] == ']') --depth;
      ++at;
    }
    if (name == key) return text.substr(begin, at - begin);
    ++at;  // the comma
  }
  return {};
}

std::optional<json::object> parse_object(std::string_view text) {
  json::parse_options options;
  options.max_depth = kLineDepth;
  json::error_code code;
  json::value value = json::parse(text, code, {}, options);
  if (code || !value.is_object()) return std::nullopt;
  return std::move(value.as_object());
}

std::string text_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->as_string()) : std::string();
}

std::uint64_t count_of(const json::value& usage, std::string_view key) {
  const json::value* value = usage.is_object() ? usage.as_object().if_contains(key) : nullptr;
  return value != nullptr && value->is_int64() && value->as_int64() > 0 ? static_cast<std::uint64_t>(value->as_int64())
                                                                        : 0;
}

}  // namespace

Outcome<JobLine> parse_job_line(std::string_view text) {
  const auto wrong = [](std::string what) { return failure(ErrorKind::kInvalid, std::move(what)); };
  if (const auto checked = model::check_json(text, "it", kLineDepth); !checked.ok()) {
    return wrong("is no JSON object: " + checked.error().text);
  }
  const auto object = parse_object(text);
  if (!object) return wrong("is no JSON object");
  for (const auto& entry : *object) {
    const std::string_view key = entry.key();
    if (key != "custom_id" && key != "method" && key != "url" && key != "body") {
      return wrong("'" + std::string(key.substr(0, 64)) +
                   "' is not known here; a line has custom_id, method, url, body");
    }
  }
  JobLine line;
  line.custom_id = text_of(*object, "custom_id");
  if (line.custom_id.empty() || line.custom_id.size() > kMaxCustomIdBytes) {
    return wrong("'custom_id' must be a text of 1 to " + std::to_string(kMaxCustomIdBytes) + " bytes");
  }
  if (text_of(*object, "method") != "POST") return wrong("'method' must be \"POST\"");
  const std::string url = text_of(*object, "url");
  if (url != "/v1/chat/completions" && url != "/v1/completions") {
    return wrong("'url' must be \"/v1/chat/completions\" or \"/v1/completions\"");
  }
  line.shape = url == "/v1/completions" ? AnswerShape::kCompletion : AnswerShape::kChat;
  const json::value* body = object->if_contains("body");
  line.body = letters_of(text, "body");
  if (body == nullptr || !body->is_object() || line.body.empty()) return wrong("'body' must be an object");
  return line;
}

OrRefusal<AnswerCall> call_of(const JobLine& line, std::string_view served_model) {
  auto decoded = line.shape == AnswerShape::kChat ? decode_chat(line.body) : decode_completion(line.body);
  const auto* call = std::get_if<AnswerCall>(&decoded);
  if (call == nullptr) return decoded;
  if (auto refused = other_model(call->model, served_model)) return std::move(*refused);
  if (call->stream) {
    return Refusal{400, "invalid_request_error", "unsupported_parameter", "stream",
                   "'stream' must be false or absent: the answers of a job go to a file"};
  }
  return decoded;
}

std::string format_job_answer(const JobAnswer& answer) {
  // The body is JSON already; what stands around it is small.
  return "{\"id\":" +
         json::serialize(json::string(std::string(kIdStart) + answer.job + "_" + std::to_string(answer.line))) +
         ",\"custom_id\":" + json::serialize(json::string(answer.custom_id)) +
         ",\"response\":{\"status_code\":" + std::to_string(answer.status) +
         ",\"request_id\":" + json::serialize(json::string(answer.request_id)) + ",\"body\":" + answer.body +
         "},\"error\":null}\n";
}

std::optional<AnswerRecord> read_job_answer(std::string_view text) {
  const auto object = parse_object(text);
  if (!object) return std::nullopt;
  AnswerRecord record;
  const std::string id = text_of(*object, "id");
  const std::size_t bar = id.rfind('_');
  if (!id.starts_with(kIdStart) || bar < kIdStart.size()) return std::nullopt;
  record.job = id.substr(kIdStart.size(), bar - kIdStart.size());
  const char* end = id.data() + id.size();
  const auto number = std::from_chars(id.data() + bar + 1, end, record.line);
  if (number.ec != std::errc() || number.ptr != end || record.line == 0) return std::nullopt;
  record.custom_id = text_of(*object, "custom_id");
  const json::value* response = object->if_contains("response");
  if (response == nullptr || !response->is_object()) return std::nullopt;
  const json::value* status = response->as_object().if_contains("status_code");
  const json::value* body = response->as_object().if_contains("body");
  if (status == nullptr || !status->is_int64() || body == nullptr || !body->is_object()) return std::nullopt;
  record.status = static_cast<int>(status->as_int64());
  if (const json::value* usage = body->as_object().if_contains("usage")) {
    record.prompt_tokens = count_of(*usage, "prompt_tokens");
    record.completion_tokens = count_of(*usage, "completion_tokens");
  }
  return record;
}

}  // namespace consort::cli
