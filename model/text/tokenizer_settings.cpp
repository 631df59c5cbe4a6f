#include "model/text/tokenizer_settings.hpp"

#include <boost/json.hpp>
#include <limits>

namespace consort::model {
namespace {

namespace json = boost::json;
using runtime::ErrorKind;
using runtime::Outcome;
using runtime::Status;

runtime::Error refuse(std::string_view file, std::string_view key, const std::string& why) {
  return runtime::failure(ErrorKind::kInvalid, std::string(file) + ": " + std::string(key) + " " + why);
}

Outcome<json::object> parse_object(std::string_view text, std::string_view file) {
  json::error_code error;
  json::value document = json::parse(text, error);
  if (error) return refuse(file, "the file", "is not JSON: " + error.message());
  if (!document.is_object()) return refuse(file, "the file", "is not a JSON object");
  return std::move(document.get_object());
}

const json::value* find(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_null() ? nullptr : value;
}

constexpr std::string_view kTokenizerConfig = "tokenizer_config.json";

Status read_flag(const json::object& object, std::string_view key, std::optional<bool>& flag) {
  const json::value* value = find(object, key);
  if (value == nullptr) return runtime::done();
  if (!value->is_bool()) return refuse(kTokenizerConfig, key, "is not true or false");
  flag = value->get_bool();
  return runtime::done();
}

// A token is its text, or an object with the text as "content".
Status read_token(const json::object& object, std::string_view key, std::string& token) {
  const json::value* value = find(object, key);
  if (value == nullptr) return runtime::done();
  if (value->is_object()) value = find(value->get_object(), "content");
  if (value == nullptr || !value->is_string()) return refuse(kTokenizerConfig, key, "is no token text");
  token = value->get_string().c_str();
  return runtime::done();
}

// The template is a string, or a list of {name, template} of which "default" is the one for chat.
Status read_chat_template(const json::object& object, std::string& chat_template) {
  const json::value* value = find(object, "chat_template");
  if (value == nullptr) return runtime::done();
  if (value->is_array()) {
    const json::value* chosen = nullptr;
    for (const json::value& entry : value->get_array()) {
      if (!entry.is_object()) return refuse(kTokenizerConfig, "chat_template", "has an entry that is no object");
      const json::value* name = find(entry.get_object(), "name");
      if (name != nullptr && *name == "default") chosen = find(entry.get_object(), "template");
    }
    value = chosen;
  }
  if (value == nullptr || !value->is_string()) {
    return refuse(kTokenizerConfig, "chat_template", "is neither a string nor a list with a \"default\"");
  }
  chat_template = value->get_string().c_str();
  return runtime::done();
}

Outcome<std::int32_t> as_id(const json::value& value, std::string_view file, std::string_view key) {
  if (!value.is_int64() || value.get_int64() < 0 || value.get_int64() > std::numeric_limits<std::int32_t>::max()) {
    return refuse(file, key, "is " + json::serialize(value) + ", not a token id");
  }
  return static_cast<std::int32_t>(value.get_int64());
}

}  // namespace

Status read_tokenizer_config(std::string_view text, TokenizerSettings& settings) {
  CONSORT_TRY(const json::object object, parse_object(text, kTokenizerConfig));
  const json::value* tokenizer_class = find(object, "tokenizer_class");
  if (tokenizer_class != nullptr &&
      (*tokenizer_class == "LlamaTokenizerFast" || *tokenizer_class == "LlamaTokenizer")) {
    settings.add_bos_token = true;
  }
  CONSORT_RETURN_IF_ERROR(read_flag(object, "add_bos_token", settings.add_bos_token));
  std::optional<bool> add_eos;
  CONSORT_RETURN_IF_ERROR(read_flag(object, "add_eos_token", add_eos));
  settings.add_eos_token = add_eos.value_or(false);
  CONSORT_RETURN_IF_ERROR(read_token(object, "bos_token", settings.bos_token));
  CONSORT_RETURN_IF_ERROR(read_token(object, "eos_token", settings.eos_token));
  return read_chat_template(object, settings.chat_template);
}

Status read_special_ids(std::string_view text, std::string_view file, TokenizerSettings& settings) {
  CONSORT_TRY(const json::object object, parse_object(text, file));
  const json::value* bos = find(object, "bos_token_id");
  if (bos != nullptr && !settings.bos_token_id) {
    CONSORT_TRY(settings.bos_token_id, as_id(*bos, file, "bos_token_id"));
  }
  const json::value* eos = find(object, "eos_token_id");
  if (eos == nullptr || !settings.eos_token_ids.empty()) return runtime::done();
  std::vector<std::int32_t> ids;
  if (eos->is_array()) {
    for (const json::value& each : eos->get_array()) {
      CONSORT_TRY(const std::int32_t id, as_id(each, file, "eos_token_id"));
      ids.push_back(id);
    }
  } else {
    CONSORT_TRY(const std::int32_t id, as_id(*eos, file, "eos_token_id"));
    ids.push_back(id);
  }
  settings.eos_token_ids = std::move(ids);
  return runtime::done();
}

}  // namespace consort::model
