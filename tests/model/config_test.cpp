#include "support/test.hpp"

#include "model/config.hpp"
#include "support/formula_checkpoint.hpp"

using namespace consort;
using namespace consort::model;
using tests::small_config;

namespace {

void refused(const std::map<std::string, std::string>& changes, const std::string& key) {
  const auto config = parse_config(small_config(changes), "config.json");
  CAPTURE(key);
  REQUIRE_FALSE(config.ok());
  CHECK(config.error().kind == runtime::ErrorKind::kInvalid);
  CHECK_MESSAGE(config.error().text.find("config.json") != std::string::npos, config.error().text);
  CHECK_MESSAGE(config.error().text.find(key) != std::string::npos, config.error().text);
}

}  // namespace

TEST_CASE("config.json of a V3 is read with the checkpoint's names") {
  const auto config = parse_config(small_config(), "config.json");
  REQUIRE_MESSAGE(config.ok(), (config.ok() ? "" : config.error().text));
  const ModelConfig& c = config.value();
  CHECK(c.family == Family::kDeepseekV3);
  CHECK(c.hidden_size == 64);
  CHECK(c.q_lora_rank == 24);
  CHECK(c.qk_head_dim() == 20);
  CHECK(c.latent_width() == 40);
  CHECK(c.topk_method == TopkMethod::kNoauxTc);
  CHECK(c.norm_topk_prob);
  CHECK(c.is_dense(0));
  CHECK(c.is_moe(1));
  REQUIRE(c.rope_scaling.has_value());
  CHECK(c.rope_scaling->factor == 40.0);
  CHECK(c.bos_token_id == 0);
  CHECK(c.eos_token_id == std::vector<std::int64_t>{1});
  CHECK_FALSE(c.fp8);
}

TEST_CASE("config.json may spell things as newer and older writers do") {
  auto k2 = parse_config(small_config({{"model_type", "\"kimi_k2\""}, {"eos_token_id", "[1, 2]"}}), "");
  REQUIRE(k2.ok());
  CHECK(k2.value().family == Family::kDeepseekV3);
  CHECK(k2.value().eos_token_id == std::vector<std::int64_t>{1, 2});
  auto v5 = parse_config(small_config({{"rope_scaling", ""},
                                       {"rope_theta", ""},
                                       {"rope_parameters",
                                        "{\"rope_type\": \"yarn\", \"rope_theta\": 50000, \"factor\": 32.0, "
                                        "\"original_max_position_embeddings\": 4096}"}}),
                         "");
  REQUIRE_MESSAGE(v5.ok(), (v5.ok() ? "" : v5.error().text));
  CHECK(v5.value().rope_theta == 50000.0);
  CHECK(v5.value().rope_scaling->factor == 32.0);
  CHECK(v5.value().rope_scaling->beta_fast == 32.0);
  auto plain = parse_config(small_config({{"rope_scaling", "null"},
                                          {"q_lora_rank", "null"},
                                          {"num_key_value_heads", "null"},
                                          {"scoring_func", ""},
                                          {"topk_method", ""},
                                          {"hidden_size", "64.0"}}),
                            "");
  REQUIRE_MESSAGE(plain.ok(), (plain.ok() ? "" : plain.error().text));
  CHECK(plain.value().q_lora_rank == 0);
  CHECK_FALSE(plain.value().rope_scaling.has_value());
  CHECK(plain.value().hidden_size == 64);
  auto none = parse_config(small_config({{"rope_scaling", "{\"rope_type\": \"default\"}"}}), "");
  REQUIRE(none.ok());
  CHECK_FALSE(none.value().rope_scaling.has_value());
}

TEST_CASE("config.json of a V2 has softmax gates") {
  const std::map<std::string, std::string> v2{{"model_type", "\"deepseek_v2\""},
                                              {"scoring_func", "\"softmax\""},
                                              {"topk_method", "\"group_limited_greedy\""},
                                              {"norm_topk_prob", "false"},
                                              {"routed_scaling_factor", ""}};
  auto config = parse_config(small_config(v2), "");
  REQUIRE_MESSAGE(config.ok(), (config.ok() ? "" : config.error().text));
  CHECK(config.value().topk_method == TopkMethod::kGroupLimitedGreedy);
  CHECK(config.value().routed_scaling_factor == 1.0);
  auto lite = v2;
  lite["topk_method"] = "\"greedy\"";
  config = parse_config(small_config(lite), "");
  REQUIRE(config.ok());
  CHECK(config.value().n_group == 1);  // greedy knows no groups, whatever the file says
  auto changed = v2;
  changed["norm_topk_prob"] = "true";
  refused(changed, "norm_topk_prob");
  changed = v2;
  changed["topk_method"] = "\"noaux_tc\"";
  refused(changed, "topk_method");
}

TEST_CASE("config.json with FP8 weights says so in one way only") {
  const auto fp8 = [](const std::string& method, const std::string& format, const std::string& block) {
    return std::map<std::string, std::string>{
        {"quantization_config", "{\"quant_method\": \"" + method + "\", \"fmt\": \"" + format +
                                    "\", \"scale_fmt\": \"ue8m0\", \"weight_block_size\": " + block + "}"}};
  };
  auto config = parse_config(small_config(fp8("fp8", "e4m3", "[128, 128]")), "");
  REQUIRE(config.ok());
  CHECK(config.value().fp8);
  refused(fp8("awq", "e4m3", "[128, 128]"), "quant_method");
  refused(fp8("fp8", "e5m2", "[128, 128]"), "fmt");
  refused(fp8("fp8", "e4m3", "[64, 128]"), "weight_block_size");
  refused(fp8("fp8", "e4m3", "null"), "weight_block_size");
}

TEST_CASE("config.json is refused by the key that is wrong") {
  for (const char* key :
       {"vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "num_hidden_layers",
        "num_attention_heads", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "n_routed_experts",
        "num_experts_per_tok", "first_k_dense_replace", "max_position_embeddings", "routed_scaling_factor"}) {
    refused({{key, ""}}, key);
    refused({{key, "null"}}, key);
    refused({{key, "\"8\""}}, key);
    refused({{key, "-1"}}, key);
    refused({{key, "1e300"}}, key);
  }
  refused({{"hidden_size", "0"}}, "hidden_size");
  refused({{"hidden_size", "64.5"}}, "hidden_size");
  refused({{"model_type", "\"llama\""}}, "model_type");
  refused({{"model_type", ""}}, "model_type");
  refused({{"scoring_func", "\"softmax\""}}, "scoring_func");
  refused({{"topk_method", "\"greedy\""}}, "topk_method");
  refused({{"hidden_act", "\"gelu\""}}, "hidden_act");
  refused({{"attention_bias", "true"}}, "attention_bias");
  refused({{"rope_interleave", "false"}}, "rope_interleave");
  refused({{"tie_word_embeddings", "1"}}, "tie_word_embeddings");
  refused({{"num_key_value_heads", "2"}}, "num_key_value_heads");
  refused({{"n_group", "3"}}, "n_group");
  refused({{"n_group", "16"}, {"topk_group", "8"}}, "n_group");
  refused({{"topk_group", "5"}}, "topk_group");
  refused({{"num_experts_per_tok", "9"}}, "num_experts_per_tok");
  refused({{"qk_rope_head_dim", "7"}}, "qk_rope_head_dim");
  refused({{"first_k_dense_replace", "4"}}, "first_k_dense_replace");
  refused({{"moe_layer_freq", "2"}}, "moe_layer_freq");
  refused({{"eos_token_id", "[1, 96]"}}, "eos_token_id");
  refused({{"eos_token_id", "-1"}}, "eos_token_id");
  refused({{"rms_norm_eps", "-1"}}, "rms_norm_eps");
  refused({{"rope_scaling", "{\"type\": \"linear\", \"factor\": 2}"}}, "rope_scaling: type");
  refused({{"rope_scaling", "{\"type\": \"yarn\"}"}}, "factor");
  refused({{"rope_scaling", "{\"type\": \"yarn\", \"factor\": 2}"}}, "original_max_position_embeddings");
  refused({{"rope_scaling", "[]"}}, "rope_scaling");
  refused({{"rope_scaling", "{\"type\": \"yarn\", \"rope_type\": \"default\", \"factor\": 2}"}}, "type");
}

TEST_CASE("config.json that is no JSON, or says a key twice, is refused") {
  CHECK_FALSE(parse_config("", "x").ok());
  CHECK_FALSE(parse_config("[]", "x").ok());
  CHECK_FALSE(parse_config("{\"a\": 1", "x").ok());
  CHECK_FALSE(parse_config(small_config() + "}", "x").ok());
  const auto twice = parse_config("{\"hidden_size\": 1, \"hidden_size\": 2}", "x");
  REQUIRE_FALSE(twice.ok());
  CHECK(twice.error().text.find("'hidden_size' appears twice") != std::string::npos);
  CHECK_FALSE(parse_config(std::string(100000, '['), "x").ok());
}
