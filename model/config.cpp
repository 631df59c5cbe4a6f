#include "model/config.hpp"

#include <boost/json.hpp>

#include <cmath>

#include "model/json_text.hpp"

namespace consort::model {
namespace {

namespace json = boost::json;
using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

constexpr std::int64_t kMaxDimension = std::int64_t{1}
                                       << 24;  // 128 times DeepSeek-V3's vocabulary: keeps products in range

constexpr double kMaxReal = 1e30;  // so that a product of two stays finite in double, and one in F32

// Reads keys of one object; the first complaint is kept and later reads are harmless.
class Keys {
 public:
  Keys(const json::object& object, std::string where) : object_(object), where_(std::move(where)) {}

  bool has(const char* key) const {
    const json::value* value = object_.if_contains(key);
    return value != nullptr && !value->is_null();
  }
  const json::value& at(const char* key) const { return object_.at(key); }

  void complain(const char* key, const std::string& what) {
    if (!error_) error_ = failure(ErrorKind::kInvalid, where_ + ": " + key + " " + what);
  }

  std::int64_t integer(const char* key, std::int64_t low, std::int64_t high,
                       std::optional<std::int64_t> otherwise = {}) {
    if (!has(key)) {
      if (!otherwise) complain(key, "is missing");
      return otherwise.value_or(low);
    }
    const json::value& value = at(key);
    std::int64_t number = 0;
    if (value.is_int64()) {
      number = value.get_int64();
    } else if (value.is_double() && std::floor(value.get_double()) == value.get_double() &&
               std::abs(value.get_double()) <= static_cast<double>(kMaxDimension)) {
      number = static_cast<std::int64_t>(value.get_double());  // "4096.0" where 4096 was meant
    } else {
      complain(key, "is " + json::serialize(value) + " where an integer is needed");
      return low;
    }
    if (number < low || number > high) {
      complain(key,
               "is " + std::to_string(number) + ", outside " + std::to_string(low) + " .. " + std::to_string(high));
      return low;
    }
    return number;
  }
  std::int64_t dimension(const char* key, std::optional<std::int64_t> otherwise = {}) {
    return integer(key, 1, kMaxDimension, otherwise);
  }

  double real(const char* key, double above, std::optional<double> otherwise = {}) {
    if (!has(key)) {
      if (!otherwise) complain(key, "is missing");
      return otherwise.value_or(1.0);
    }
    const json::value& value = at(key);
    if (!value.is_number()) {
      complain(key, "is " + json::serialize(value) + " where a number is needed");
      return 1.0;
    }
    const double number = value.to_number<double>();
    if (!(number >= above && number <= kMaxReal)) {
      complain(key, "is " + json::serialize(value) + ", which is out of range");
      return 1.0;
    }
    return number;
  }

  bool boolean(const char* key, bool otherwise) {
    if (!has(key)) return otherwise;
    if (at(key).is_bool()) return at(key).get_bool();
    complain(key, "is " + json::serialize(at(key)) + " where true or false is needed");
    return otherwise;
  }

  std::string text(const char* key, const char* otherwise) {
    if (!has(key)) return otherwise;
    if (at(key).is_string()) return std::string(at(key).get_string().c_str(), at(key).get_string().size());
    complain(key, "is " + json::serialize(at(key)) + " where a string is needed");
    return otherwise;
  }

  const json::object* object(const char* key) {
    if (!has(key)) return nullptr;
    if (at(key).is_object()) return &at(key).get_object();
    complain(key, "is not an object");
    return nullptr;
  }

  const std::string& where() const { return where_; }
  const std::optional<runtime::Error>& error() const { return error_; }
  void adopt(const Keys& inner) {
    if (!error_) error_ = inner.error_;
  }

 private:
  const json::object& object_;
  std::string where_;
  std::optional<runtime::Error> error_;
};

// rope_scaling, or what transformers 5 writes as rope_parameters (with rope_theta inside).
void read_rope(Keys& keys, ModelConfig& config) {
  config.rope_theta = keys.real("rope_theta", 1.0, 10000.0);
  const bool is_new = keys.object("rope_parameters") != nullptr;
  const char* key = is_new ? "rope_parameters" : "rope_scaling";
  const json::object* object = keys.object(key);
  if (object == nullptr) return;
  Keys rope(*object, keys.where() + ": " + key);
  if (is_new) config.rope_theta = rope.real("rope_theta", 1.0, config.rope_theta);
  const std::string type = rope.text("rope_type", rope.text("type", "").c_str());
  if (rope.has("type") && rope.text("type", "") != type) rope.complain("type", "and rope_type contradict each other");
  if (type == "yarn") {
    RopeScaling s;
    s.factor = rope.real("factor", 1.0);
    s.original_max_position_embeddings = rope.real("original_max_position_embeddings", 1.0);
    s.beta_fast = rope.real("beta_fast", 1e-6, 32.0);
    s.beta_slow = rope.real("beta_slow", 1e-6, 1.0);
    s.mscale = rope.real("mscale", 0.0, 0.0);
    s.mscale_all_dim = rope.real("mscale_all_dim", 0.0, 0.0);
    if (rope.has("attention_factor")) s.attention_factor = rope.real("attention_factor", 1e-6);
    if (!rope.boolean("truncate", true)) rope.complain("truncate", "= false is not supported");
    config.rope_scaling = s;
  } else if (type != "default") {
    rope.complain("type", "is '" + type + "'; only yarn and default are supported");
  }
  keys.adopt(rope);
}

void read_quantization(Keys& keys, ModelConfig& config) {
  const json::object* object = keys.object("quantization_config");
  if (object == nullptr) return;
  Keys q(*object, keys.where() + ": quantization_config");
  const std::string method = q.text("quant_method", "");
  if (method != "fp8") q.complain("quant_method", "is '" + method + "'; only fp8 is supported");
  const std::string format = q.text("fmt", "e4m3");
  if (format != "e4m3") q.complain("fmt", "is '" + format + "'; only e4m3 is supported");
  const std::string scheme = q.text("activation_scheme", "dynamic");
  if (scheme != "dynamic") q.complain("activation_scheme", "is '" + scheme + "'; only dynamic is supported");
  if (!q.has("weight_block_size") || q.at("weight_block_size") != json::array{128, 128})
    q.complain("weight_block_size", "must be [128, 128]");
  config.fp8 = true;
  keys.adopt(q);
}

void read_gate(Keys& keys, ModelConfig& config) {
  const bool v3 = config.family == Family::kDeepseekV3;
  config.n_routed_experts = keys.dimension("n_routed_experts");
  config.n_shared_experts = keys.integer("n_shared_experts", 0, 1024, 0);
  config.num_experts_per_tok = keys.integer("num_experts_per_tok", 1, 1024);
  config.n_group = keys.integer("n_group", 1, kMaxDimension, 1);
  config.topk_group = keys.integer("topk_group", 1, kMaxDimension, 1);
  config.norm_topk_prob = keys.boolean("norm_topk_prob", v3);
  config.routed_scaling_factor = keys.real("routed_scaling_factor", 0.0, v3 ? std::nullopt : std::optional(1.0));
  const std::string scoring = keys.text("scoring_func", v3 ? "sigmoid" : "softmax");
  if (scoring != (v3 ? "sigmoid" : "softmax"))
    keys.complain("scoring_func", "is '" + scoring + "', which " + config.model_type + " does not have");
  const std::string method = keys.text("topk_method", v3 ? "noaux_tc" : "greedy");
  if (v3 && method == "noaux_tc") {
    config.topk_method = TopkMethod::kNoauxTc;
  } else if (!v3 && method == "greedy") {
    config.topk_method = TopkMethod::kGreedy;
  } else if (!v3 && method == "group_limited_greedy") {
    config.topk_method = TopkMethod::kGroupLimitedGreedy;
  } else {
    keys.complain("topk_method", "is '" + method + "', which " + config.model_type + " does not have");
  }
  // DeepSeek's own V2 code then normalises and drops routed_scaling_factor, transformers does neither: no
  // released model says which is meant.
  if (!v3 && config.norm_topk_prob)
    keys.complain("norm_topk_prob", "= true is not supported for deepseek_v2: its two reference codes disagree on it");
  if (keys.integer("moe_layer_freq", 1, kMaxDimension, 1) != 1) keys.complain("moe_layer_freq", "must be 1");

  if (config.topk_method == TopkMethod::kGreedy) config.n_group = config.topk_group = 1;
  if (config.topk_group > config.n_group)
    keys.complain("topk_group", "is " + std::to_string(config.topk_group) + ", more than n_group");
  if (config.n_routed_experts % config.n_group != 0) keys.complain("n_group", "does not divide n_routed_experts");
  const std::int64_t group = config.n_routed_experts / config.n_group;
  if (v3 && group < 2) keys.complain("n_group", "leaves fewer than the two experts per group that noaux_tc scores");
  if (config.num_experts_per_tok > config.topk_group * group)
    keys.complain("num_experts_per_tok", "is more than the experts of topk_group groups");
}

void refuse_unsupported(Keys& keys, const ModelConfig& config) {
  if (keys.integer("num_key_value_heads", 1, kMaxDimension, config.num_attention_heads) != config.num_attention_heads)
    keys.complain("num_key_value_heads", "differs from num_attention_heads");
  const std::string act = keys.text("hidden_act", "silu");
  if (act != "silu") keys.complain("hidden_act", "is '" + act + "'; only silu is supported");
  if (keys.boolean("attention_bias", false)) keys.complain("attention_bias", "= true is not supported");
  if (keys.boolean("mlp_bias", false)) keys.complain("mlp_bias", "= true is not supported");
  if (!keys.boolean("rope_interleave", true))
    keys.complain("rope_interleave", "= false is not supported: only interleaved pairs are");
  if (config.qk_rope_head_dim % 2 != 0) keys.complain("qk_rope_head_dim", "must be even");
  if (config.first_k_dense_replace > config.num_hidden_layers)
    keys.complain("first_k_dense_replace", "is more than num_hidden_layers");
}

void read_tokens(Keys& keys, ModelConfig& config) {
  if (keys.has("bos_token_id")) config.bos_token_id = keys.integer("bos_token_id", 0, config.vocab_size - 1);
  if (!keys.has("eos_token_id")) return;
  const json::value& eos = keys.at("eos_token_id");
  if (!eos.is_array()) {
    config.eos_token_id = {keys.integer("eos_token_id", 0, config.vocab_size - 1)};
    return;
  }
  for (const json::value& id : eos.get_array()) {
    if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() >= config.vocab_size)
      return keys.complain("eos_token_id", "has " + json::serialize(id) + ", which is no token id");
    config.eos_token_id.push_back(id.get_int64());
  }
}

}  // namespace

Outcome<ModelConfig> parse_config(std::string_view text, std::string_view where) {
  CONSORT_RETURN_IF_ERROR(check_json(text, where));
  json::error_code code;
  const json::value root = json::parse(json::string_view(text.data(), text.size()), code);
  if (code || !root.is_object()) return failure(ErrorKind::kInvalid, std::string(where) + ": not a JSON object");
  Keys keys(root.get_object(), std::string(where));

  ModelConfig config;
  config.model_type = keys.text("model_type", "");
  if (config.model_type == "deepseek_v3" || config.model_type == "kimi_k2") {
    config.family = Family::kDeepseekV3;
  } else if (config.model_type == "deepseek_v2") {
    config.family = Family::kDeepseekV2;
  } else {
    return failure(ErrorKind::kInvalid, std::string(where) + ": model_type is '" + config.model_type +
                                            "'; deepseek_v3, kimi_k2 and deepseek_v2 are supported");
  }
  config.vocab_size = keys.dimension("vocab_size");
  config.hidden_size = keys.dimension("hidden_size");
  config.intermediate_size = keys.dimension("intermediate_size");
  config.moe_intermediate_size = keys.dimension("moe_intermediate_size");
  config.num_hidden_layers = keys.integer("num_hidden_layers", 1, 4096);
  config.num_attention_heads = keys.dimension("num_attention_heads");
  config.q_lora_rank = keys.dimension("q_lora_rank", 0);
  config.kv_lora_rank = keys.dimension("kv_lora_rank");
  config.qk_nope_head_dim = keys.dimension("qk_nope_head_dim");
  config.qk_rope_head_dim = keys.dimension("qk_rope_head_dim");
  config.v_head_dim = keys.dimension("v_head_dim");
  config.first_k_dense_replace = keys.integer("first_k_dense_replace", 0, 4096);
  config.rms_norm_eps = keys.real("rms_norm_eps", 0.0, 1e-6);
  config.max_position_embeddings = keys.dimension("max_position_embeddings");
  config.tie_word_embeddings = keys.boolean("tie_word_embeddings", false);
  read_gate(keys, config);
  read_rope(keys, config);
  read_quantization(keys, config);
  read_tokens(keys, config);
  refuse_unsupported(keys, config);
  if (keys.error()) return *keys.error();
  return config;
}

}  // namespace consort::model
