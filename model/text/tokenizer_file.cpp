#include "model/text/tokenizer_file.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <initializer_list>
#include <unordered_map>
#include <unordered_set>

namespace consort::model {
namespace {

namespace json = boost::json;
using runtime::ErrorKind;
using runtime::Outcome;
using runtime::Status;

// Larger than any vocabulary (Kimi-K2 has 163,840), small enough that a wrong id cannot ask for gigabytes.
constexpr std::int64_t kMaxTokenId = (std::int64_t{1} << 20) - 1;
constexpr std::size_t kMaxNesting = 16;  // the deepest field lies at 5
constexpr std::size_t kMaxAddedTokenBytes = 1024;

// What the ByteLevel pre-tokenizer splits by where use_regex is true: GPT-2's expression.
constexpr std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

runtime::Error refuse(const std::string& field, const std::string& why) {
  return runtime::failure(ErrorKind::kInvalid, "tokenizer.json: " + field + " " + why);
}

std::string shown(const json::value& value) {
  std::string text = json::serialize(value);
  if (text.size() > 60) text = text.substr(0, 60) + "...";
  return text;
}

// A JSON object at a place in the file. Every field is asked for by name, and finish() refuses those that nobody knows.
class Fields {
 public:
  static Outcome<Fields> of(const json::value& value, std::string path) {
    if (!value.is_object()) return refuse(path, "is " + shown(value) + ", not an object");
    return Fields(value.get_object(), std::move(path));
  }

  std::string path(std::string_view key) const {
    return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
  }

  // The field's value; null where it is absent.
  const json::value* find(std::string_view key) {
    known_.push_back(key);
    const json::value* value = object_->if_contains(key);
    return value != nullptr && value->is_null() ? nullptr : value;
  }

  Outcome<bool> flag(std::string_view key, bool absent) {
    const json::value* value = find(key);
    if (value == nullptr) return absent;
    if (!value->is_bool()) return refuse(path(key), "is " + shown(*value) + ", not true or false");
    return value->get_bool();
  }

  Outcome<std::string> text(std::string_view key) {
    const json::value* value = find(key);
    if (value == nullptr) return refuse(path(key), "is missing");
    if (!value->is_string()) return refuse(path(key), "is " + shown(*value) + ", not a string");
    return std::string(value->get_string());
  }

  Outcome<std::int32_t> token_id(std::string_view key) {
    const json::value* value = find(key);
    if (value == nullptr) return refuse(path(key), "is missing");
    return as_token_id(*value, path(key));
  }

  static Outcome<std::int32_t> as_token_id(const json::value& value, const std::string& path) {
    if (!value.is_int64() || value.get_int64() < 0 || value.get_int64() > kMaxTokenId) {
      return refuse(path, "is " + shown(value) + ", not a token id between 0 and " + std::to_string(kMaxTokenId));
    }
    return static_cast<std::int32_t>(value.get_int64());
  }

  Outcome<const json::array*> list(std::string_view key) {
    const json::value* value = find(key);
    if (value == nullptr) return refuse(path(key), "is missing");
    if (!value->is_array()) return refuse(path(key), "is " + shown(*value) + ", not a list");
    return &value->get_array();
  }

  // For fields that change nothing where they hold the plain value.
  Status expect(std::string_view key, const json::value& plain) {
    const json::value* value = find(key);
    if (value == nullptr || *value == plain) return runtime::done();
    return refuse(path(key), "is " + shown(*value) + "; only " + json::serialize(plain) + " is supported");
  }
  Status require(std::string_view key, const json::value& plain) {
    if (find(key) == nullptr) return refuse(path(key), "is missing");
    return expect(key, plain);
  }
  Status expect_absent(std::string_view key) {
    const json::value* value = find(key);
    if (value == nullptr) return runtime::done();
    return refuse(path(key), "is " + shown(*value) + ", which is not supported");
  }
  void ignore(std::initializer_list<std::string_view> keys) { known_.insert(known_.end(), keys); }

  Status finish() const {
    for (const auto& member : *object_) {
      if (std::find(known_.begin(), known_.end(), std::string_view(member.key())) == known_.end()) {
        return refuse(path(member.key()), "is a field that this program does not know");
      }
    }
    return runtime::done();
  }

 private:
  Fields(const json::object& object, std::string path) : object_(&object), path_(std::move(path)) {}
  const json::object* object_;
  std::string path_;
  std::vector<std::string_view> known_;
};

std::string at(const std::string& list, std::size_t index) { return list + "[" + std::to_string(index) + "]"; }

// ---- model

using TokenIds = std::unordered_map<std::string_view, std::int32_t>;

Outcome<TokenIds> parse_vocabulary(const json::value* value, TokenizerFile& file) {
  if (value == nullptr || !value->is_object()) return refuse("model.vocab", "is missing or not an object");
  TokenIds ids;
  ids.reserve(value->get_object().size());
  for (const auto& [text, id_value] : value->get_object()) {
    const std::string field = "model.vocab[" + json::serialize(json::value(text)) + "]";
    CONSORT_TRY(const std::int32_t id, Fields::as_token_id(id_value, field));
    if (text.empty()) return refuse(field, "is an empty token");
    const auto index = static_cast<std::size_t>(id);
    if (index >= file.vocabulary.size()) file.vocabulary.resize(index + 1);
    if (!file.vocabulary[index].empty()) {
      return refuse(field, "has the id " + std::to_string(id) + " of another token");
    }
    file.vocabulary[index] = text;
    ids.emplace(std::string_view(text), id);
  }
  return ids;
}

// A merge is "left right" or, in newer files, ["left", "right"].
Outcome<MergeRule> parse_merge(const json::value& value, const std::string& field, const TokenIds& ids) {
  std::string_view left;
  std::string_view right;
  if (value.is_string()) {
    const std::string_view both = value.get_string();
    const std::size_t space = both.find(' ');
    if (space == std::string_view::npos || both.find(' ', space + 1) != std::string_view::npos) {
      return refuse(field, "is " + shown(value) + ", not two tokens with a space between");
    }
    left = both.substr(0, space);
    right = both.substr(space + 1);
  } else if (value.is_array() && value.get_array().size() == 2 && value.get_array()[0].is_string() &&
             value.get_array()[1].is_string()) {
    left = value.get_array()[0].get_string();
    right = value.get_array()[1].get_string();
  } else {
    return refuse(field, "is " + shown(value) + ", not two tokens");
  }
  const std::string result = std::string(left) + std::string(right);
  for (std::string_view token : {left, right, std::string_view(result)}) {
    if (!ids.contains(token)) return refuse(field, "needs the token " + std::string(token) + ", which is not in vocab");
  }
  return MergeRule{ids.at(left), ids.at(right), ids.at(result)};
}

Status parse_model(const json::value* value, TokenizerFile& file) {
  if (value == nullptr) return refuse("model", "is missing");
  CONSORT_TRY(Fields model, Fields::of(*value, "model"));
  const json::value* type = model.find("type");  // old files leave it out; only BPE has merges
  if (type != nullptr && *type != "BPE")
    return refuse("model.type", "is " + shown(*type) + "; only \"BPE\" is supported");
  for (std::string_view key : {"dropout", "unk_token"}) CONSORT_RETURN_IF_ERROR(model.expect_absent(key));
  for (std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    CONSORT_RETURN_IF_ERROR(model.expect(key, ""));
  }
  CONSORT_RETURN_IF_ERROR(model.expect("byte_fallback", false));
  model.ignore({"fuse_unk"});  // without unk_token it has no effect
  CONSORT_TRY(file.ignore_merges, model.flag("ignore_merges", false));
  CONSORT_TRY(const TokenIds ids, parse_vocabulary(model.find("vocab"), file));
  CONSORT_TRY(const json::array* merges, model.list("merges"));
  file.merges.reserve(merges->size());
  for (const json::value& merge : *merges) {
    CONSORT_TRY(const MergeRule rule, parse_merge(merge, at("model.merges", file.merges.size()), ids));
    file.merges.push_back(rule);
  }
  return model.finish();
}

// ---- added tokens

Status parse_added_token(const json::value& value, const std::string& path, TokenizerFile& file) {
  CONSORT_TRY(Fields fields, Fields::of(value, path));
  AddedToken token;
  CONSORT_TRY(token.id, fields.token_id("id"));
  CONSORT_TRY(token.text, fields.text("content"));
  CONSORT_TRY(token.special, fields.flag("special", false));
  CONSORT_TRY(token.normalized, fields.flag("normalized", !token.special));
  for (std::string_view key : {"single_word", "lstrip", "rstrip"}) CONSORT_RETURN_IF_ERROR(fields.expect(key, false));
  if (token.text.empty() || token.text.size() > kMaxAddedTokenBytes) {
    return refuse(fields.path("content"), "has " + std::to_string(token.text.size()) + " bytes; 1 to " +
                                              std::to_string(kMaxAddedTokenBytes) + " are supported");
  }
  const auto index = static_cast<std::size_t>(token.id);
  if (index < file.vocabulary.size() && !file.vocabulary[index].empty() && file.vocabulary[index] != token.text) {
    return refuse(fields.path("id"),
                  "is " + std::to_string(token.id) + ", which model.vocab gives to " + file.vocabulary[index]);
  }
  CONSORT_RETURN_IF_ERROR(fields.finish());
  file.added_tokens.push_back(std::move(token));
  return runtime::done();
}

Status parse_added_tokens(const json::value* value, TokenizerFile& file) {
  if (value == nullptr) return runtime::done();
  if (!value->is_array()) return refuse("added_tokens", "is " + shown(*value) + ", not a list");
  for (const json::value& token : value->get_array()) {
    CONSORT_RETURN_IF_ERROR(parse_added_token(token, at("added_tokens", file.added_tokens.size()), file));
  }
  std::unordered_set<std::string_view> texts;
  std::unordered_set<std::int32_t> ids;
  for (std::size_t i = 0; i < file.added_tokens.size(); ++i) {
    if (!texts.insert(file.added_tokens[i].text).second || !ids.insert(file.added_tokens[i].id).second) {
      return refuse(at("added_tokens", i), "has the text or the id of an earlier one");
    }
  }
  return runtime::done();
}

// ---- normalizer, pre-tokenizer, decoder, post-processor

Status parse_normalizer(const json::value* value) {
  if (value == nullptr) return runtime::done();
  CONSORT_TRY(Fields fields, Fields::of(*value, "normalizer"));
  CONSORT_TRY(const std::string type, fields.text("type"));
  if (type != "Sequence") return refuse("normalizer.type", "is \"" + type + "\"; no normalizer is supported");
  CONSORT_TRY(const json::array* steps, fields.list("normalizers"));
  if (!steps->empty())
    return refuse("normalizer.normalizers[0]", "is " + shown(steps->front()) + "; no normalizer is supported");
  return fields.finish();
}

Outcome<SplitRule> parse_split(Fields& fields) {
  CONSORT_RETURN_IF_ERROR(fields.require("behavior", "Isolated"));
  CONSORT_RETURN_IF_ERROR(fields.expect("invert", false));
  const std::string path = fields.path("pattern");
  const json::value* pattern = fields.find("pattern");
  if (pattern == nullptr) return refuse(path, "is missing");
  CONSORT_TRY(Fields kinds, Fields::of(*pattern, path));
  const bool literal = kinds.find("String") != nullptr;
  const std::string_view key = literal ? "String" : "Regex";
  SplitRule rule;
  CONSORT_TRY(rule.pattern, kinds.text(key));
  rule.field = "tokenizer.json: " + kinds.path(key);
  rule.literal = literal;
  CONSORT_RETURN_IF_ERROR(kinds.finish());
  return rule;
}

// One stage. ByteLevel turns text into the byte alphabet, so it must be the last.
Status parse_pre_tokenizer_stage(const json::value& value, const std::string& path, bool is_last, TokenizerFile& file) {
  CONSORT_TRY(Fields fields, Fields::of(value, path));
  CONSORT_TRY(const std::string type, fields.text("type"));
  if ((type == "ByteLevel") != is_last) {
    return refuse(path, "is " + type + "; ByteLevel is needed as the last stage, and only there");
  }
  if (type == "Split") {
    CONSORT_TRY(SplitRule rule, parse_split(fields));
    file.splits.push_back(std::move(rule));
  } else if (type == "Digits") {
    CONSORT_TRY(const bool individual, fields.flag("individual_digits", false));
    file.splits.push_back({"tokenizer.json: " + path, individual ? R"(\p{N})" : R"(\p{N}+)", false});
  } else if (type == "ByteLevel") {
    const json::value* prefix_space = fields.find("add_prefix_space");  // the library's default is true
    if (prefix_space == nullptr || *prefix_space != false) {
      return refuse(fields.path("add_prefix_space"), "is not false, which is not supported");
    }
    CONSORT_TRY(const bool use_regex, fields.flag("use_regex", true));
    if (use_regex) file.splits.push_back({"tokenizer.json: " + path, std::string(kByteLevelPattern), false});
    fields.ignore({"trim_offsets"});  // moves offsets, not ids
  } else {
    return refuse(fields.path("type"), "is \"" + type + "\"; Split, Digits and ByteLevel are supported");
  }
  return fields.finish();
}

Status parse_pre_tokenizer(const json::value* value, TokenizerFile& file) {
  const std::string path = "pre_tokenizer";
  if (value == nullptr) return refuse(path, "is missing; byte-level BPE needs at least ByteLevel");
  CONSORT_TRY(Fields fields, Fields::of(*value, path));
  CONSORT_TRY(const std::string type, fields.text("type"));
  if (type != "Sequence") return parse_pre_tokenizer_stage(*value, path, true, file);
  CONSORT_TRY(const json::array* stages, fields.list("pretokenizers"));
  if (stages->empty()) return refuse(fields.path("pretokenizers"), "is empty; byte-level BPE needs at least ByteLevel");
  for (std::size_t i = 0; i < stages->size(); ++i) {
    CONSORT_RETURN_IF_ERROR(
        parse_pre_tokenizer_stage((*stages)[i], at(fields.path("pretokenizers"), i), i + 1 == stages->size(), file));
  }
  return fields.finish();
}

Status parse_decoder(const json::value* value) {
  if (value == nullptr) return refuse("decoder", "is missing; only ByteLevel is supported");
  CONSORT_TRY(Fields fields, Fields::of(*value, "decoder"));
  CONSORT_RETURN_IF_ERROR(fields.require("type", "ByteLevel"));
  fields.ignore({"add_prefix_space", "trim_offsets", "use_regex"});  // the decoder reads none of them
  return fields.finish();
}

Outcome<std::int32_t> template_token(const json::value& special_token, const std::string& path,
                                     const TokenizerFile& file) {
  CONSORT_TRY(Fields fields, Fields::of(special_token, path));
  CONSORT_TRY(const std::string text, fields.text("id"));
  for (const AddedToken& token : file.added_tokens) {
    if (token.text == text) return token.id;
  }
  return refuse(path, "names " + text + ", which is not among added_tokens");
}

// "single" is a list of {"SpecialToken": {"id": text}} around one {"Sequence": ...}; "pair" is for two texts.
Status parse_template(Fields& fields, TokenizerFile& file) {
  CONSORT_TRY(const json::array* pieces, fields.list("single"));
  bool text_seen = false;
  for (std::size_t i = 0; i < pieces->size(); ++i) {
    const std::string path = at(fields.path("single"), i);
    CONSORT_TRY(Fields piece, Fields::of((*pieces)[i], path));
    if (const json::value* token = piece.find("SpecialToken")) {
      CONSORT_TRY(const std::int32_t id, template_token(*token, path, file));
      (text_seen ? file.suffix : file.prefix).push_back(id);
    } else if (piece.find("Sequence") != nullptr && !text_seen) {
      text_seen = true;
    } else {
      return refuse(path, "is " + shown((*pieces)[i]) + ", neither a SpecialToken nor the one Sequence");
    }
    CONSORT_RETURN_IF_ERROR(piece.finish());
  }
  if (!text_seen) return refuse(fields.path("single"), "has no Sequence");
  fields.ignore({"pair", "special_tokens"});
  return fields.finish();
}

Status parse_post_processor(const json::value* value, const std::string& path, bool may_nest, TokenizerFile& file) {
  if (value == nullptr) return runtime::done();
  CONSORT_TRY(Fields fields, Fields::of(*value, path));
  CONSORT_TRY(const std::string type, fields.text("type"));
  if (type == "ByteLevel") {  // moves offsets, not ids
    fields.ignore({"add_prefix_space", "trim_offsets", "use_regex"});
    return fields.finish();
  }
  if (type == "TemplateProcessing") return parse_template(fields, file);
  if (type != "Sequence" || !may_nest) {
    return refuse(fields.path("type"), "is \"" + type + "\"; ByteLevel and TemplateProcessing are supported");
  }
  CONSORT_TRY(const json::array* steps, fields.list("processors"));
  for (std::size_t i = 0; i < steps->size(); ++i) {
    CONSORT_RETURN_IF_ERROR(parse_post_processor(&(*steps)[i], at(fields.path("processors"), i), false, file));
  }
  return fields.finish();
}

}  // namespace

Outcome<TokenizerFile> parse_tokenizer_json(std::string_view text) {
  json::parse_options options;
  options.max_depth = kMaxNesting;
  json::error_code error;
  const json::value document = json::parse(text, error, {}, options);
  if (error) return refuse("the file", "is not JSON: " + error.message());
  CONSORT_TRY(Fields root, Fields::of(document, ""));
  TokenizerFile file;
  root.ignore({"version"});
  for (std::string_view key : {"truncation", "padding"}) CONSORT_RETURN_IF_ERROR(root.expect_absent(key));
  CONSORT_RETURN_IF_ERROR(parse_model(root.find("model"), file));
  CONSORT_RETURN_IF_ERROR(parse_added_tokens(root.find("added_tokens"), file));
  CONSORT_RETURN_IF_ERROR(parse_normalizer(root.find("normalizer")));
  CONSORT_RETURN_IF_ERROR(parse_pre_tokenizer(root.find("pre_tokenizer"), file));
  CONSORT_RETURN_IF_ERROR(parse_decoder(root.find("decoder")));
  CONSORT_RETURN_IF_ERROR(parse_post_processor(root.find("post_processor"), "post_processor", true, file));
  CONSORT_RETURN_IF_ERROR(root.finish());
  return file;
}

}  // namespace consort::model
