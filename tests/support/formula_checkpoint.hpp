// Writes checkpoints whose weights come from a formula, so that tests need neither downloads nor large files.
// tools/record_reference.py has the same formula in Python and records what transformers makes of it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "model/checkpoint.hpp"
#include "model/config.hpp"
#include "model/safetensors.hpp"

namespace consort::tests {

// Tensors are numbered t = 0, 1, ... in the order of formula_tensors(). With s = ((t + 1 + 1000 seed) *
// 1000003) mod 2^32, each element in row-major order takes s = (s * 1664525 + 1013904223) mod 2^32 and u = s
// / 2^32 - 0.5. A linear weight or embedding is linear_gain * u, the gate gate_gain * u, a norm 1 + 0.2 u, a
// bias bias_gain * u. BF16 cuts the F32 value off; F16 takes (s >> 22) - 512 over 4096 instead; FP8 takes the
// byte s >> 24, its lowest bit flipped where that would be NaN, and scales (1.5 + u) / 1024 from tensor
// number t + 100000.
struct FormulaOptions {
  runtime::Dtype dtype = runtime::Dtype::kF32;  // of linear weights; norms are F32 or BF16, the gate's bias is F32
  std::uint32_t seed = 0;
  double linear_gain = 0.3;
  double gate_gain = 0.5;
  double bias_gain = 0.1;
  int shard_count = 1;
};

struct FormulaTensor {
  enum class Kind { kLinear, kProjection, kGate, kNorm, kBias } kind;  // projections are what FP8 applies to
  std::string name;
  std::vector<std::int64_t> shape;
};

inline std::vector<FormulaTensor> formula_tensors(const model::ModelConfig& c) {
  using Kind = FormulaTensor::Kind;
  std::vector<FormulaTensor> all;
  const auto ffn = [&](const std::string& prefix, std::int64_t width) {
    all.push_back({Kind::kProjection, prefix + "gate_proj.weight", {width, c.hidden_size}});
    all.push_back({Kind::kProjection, prefix + "up_proj.weight", {width, c.hidden_size}});
    all.push_back({Kind::kProjection, prefix + "down_proj.weight", {c.hidden_size, width}});
  };
  all.push_back({Kind::kLinear, "model.embed_tokens.weight", {c.vocab_size, c.hidden_size}});
  for (std::int64_t i = 0; i < c.num_hidden_layers; ++i) {
    const std::string layer = model::layer_name(i, ""), attention = layer + "self_attn.";
    const std::int64_t q_rows = c.num_attention_heads * c.qk_head_dim();
    all.push_back({Kind::kNorm, layer + "input_layernorm.weight", {c.hidden_size}});
    if (c.q_lora_rank > 0) {
      all.push_back({Kind::kProjection, attention + "q_a_proj.weight", {c.q_lora_rank, c.hidden_size}});
      all.push_back({Kind::kNorm, attention + "q_a_layernorm.weight", {c.q_lora_rank}});
      all.push_back({Kind::kProjection, attention + "q_b_proj.weight", {q_rows, c.q_lora_rank}});
    } else {
      all.push_back({Kind::kProjection, attention + "q_proj.weight", {q_rows, c.hidden_size}});
    }
    all.push_back({Kind::kProjection, attention + "kv_a_proj_with_mqa.weight", {c.latent_width(), c.hidden_size}});
    all.push_back({Kind::kNorm, attention + "kv_a_layernorm.weight", {c.kv_lora_rank}});
    all.push_back({Kind::kProjection,
                   attention + "kv_b_proj.weight",
                   {c.num_attention_heads * (c.qk_nope_head_dim + c.v_head_dim), c.kv_lora_rank}});
    all.push_back(
        {Kind::kProjection, attention + "o_proj.weight", {c.hidden_size, c.num_attention_heads * c.v_head_dim}});
    all.push_back({Kind::kNorm, layer + "post_attention_layernorm.weight", {c.hidden_size}});
    if (c.is_dense(i)) {
      ffn(layer + "mlp.", c.intermediate_size);
      continue;
    }
    all.push_back({Kind::kGate, layer + "mlp.gate.weight", {c.n_routed_experts, c.hidden_size}});
    if (c.topk_method == model::TopkMethod::kNoauxTc)
      all.push_back({Kind::kBias, layer + "mlp.gate.e_score_correction_bias", {c.n_routed_experts}});
    for (std::int64_t e = 0; e < c.n_routed_experts; ++e)
      ffn(layer + "mlp.experts." + std::to_string(e) + ".", c.moe_intermediate_size);
    if (c.n_shared_experts > 0) ffn(layer + "mlp.shared_experts.", c.moe_intermediate_size * c.n_shared_experts);
  }
  all.push_back({Kind::kNorm, "model.norm.weight", {c.hidden_size}});
  all.push_back({Kind::kLinear, "lm_head.weight", {c.vocab_size, c.hidden_size}});
  return all;
}

// The stream of one tensor.
class Formula {
 public:
  Formula(std::uint32_t seed, std::uint32_t tensor) : s_((tensor + 1 + 1000 * seed) * 1000003U) {}
  std::uint32_t next() { return s_ = s_ * 1664525U + 1013904223U; }
  double next_u() { return next() / 4294967296.0 - 0.5; }

 private:
  std::uint32_t s_;
};

struct WrittenTensor {
  std::string name;
  runtime::Dtype dtype;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;
};

namespace formula_detail {

template <class T>
void put(std::vector<std::byte>& bytes, T value) {
  const auto at = bytes.size();
  bytes.resize(at + sizeof(T));
  std::memcpy(bytes.data() + at, &value, sizeof(T));
}

// k / 4096 for |k| <= 512: exact in F16.
inline std::uint16_t f16_of_4096ths(int k) {
  const auto sign = static_cast<std::uint16_t>(k < 0 ? 0x8000 : 0);
  const auto magnitude = static_cast<unsigned>(k < 0 ? -k : k);
  if (magnitude == 0) return sign;
  const int exponent = std::bit_width(magnitude) - 1;
  const unsigned mantissa = (magnitude << (10 - exponent)) & 0x3FFU;
  return static_cast<std::uint16_t>(sign | static_cast<unsigned>(exponent - 12 + 15) << 10 | mantissa);
}

}  // namespace formula_detail

inline std::vector<WrittenTensor> formula_weights(const model::ModelConfig& c, const FormulaOptions& options) {
  using Kind = FormulaTensor::Kind;
  using runtime::Dtype;
  std::vector<WrittenTensor> out;
  std::uint32_t t = 0;
  for (const FormulaTensor& tensor : formula_tensors(c)) {
    std::int64_t size = 1;
    for (const std::int64_t d : tensor.shape) size *= d;
    const bool weak = tensor.kind == Kind::kBias || (tensor.kind == Kind::kNorm && options.dtype != Dtype::kBf16);
    Dtype dtype = weak ? Dtype::kF32 : options.dtype;
    if (dtype == Dtype::kF8E4m3 && tensor.kind != Kind::kProjection) dtype = Dtype::kF32;
    if (dtype == Dtype::kF16 && (tensor.kind == Kind::kNorm || tensor.kind == Kind::kGate)) dtype = Dtype::kF32;
    WrittenTensor written{tensor.name, dtype, tensor.shape, {}};
    written.bytes.reserve(static_cast<std::size_t>(size * runtime::dtype_bytes(dtype)));
    Formula formula(options.seed, t);
    for (std::int64_t i = 0; i < size; ++i) {
      const std::uint32_t s = formula.next();
      const double u = s / 4294967296.0 - 0.5;
      const double value = tensor.kind == Kind::kNorm   ? 1.0 + 0.2 * u
                           : tensor.kind == Kind::kBias ? options.bias_gain * u
                           : tensor.kind == Kind::kGate ? options.gate_gain * u
                                                        : options.linear_gain * u;
      const auto f32 = static_cast<float>(value);
      if (dtype == Dtype::kF32) formula_detail::put(written.bytes, f32);
      if (dtype == Dtype::kBf16)
        formula_detail::put(written.bytes, static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(f32) >> 16));
      if (dtype == Dtype::kF16)
        formula_detail::put(written.bytes, formula_detail::f16_of_4096ths(static_cast<int>(s >> 22) - 512));
      if (dtype == Dtype::kF8E4m3) {
        const auto byte = static_cast<std::uint8_t>(s >> 24);
        formula_detail::put(written.bytes, static_cast<std::uint8_t>((byte & 0x7F) == 0x7F ? byte ^ 1 : byte));
      }
    }
    out.push_back(std::move(written));
    if (dtype == Dtype::kF8E4m3) {
      WrittenTensor scale{
          tensor.name + "_scale_inv", Dtype::kF32, {(tensor.shape[0] + 127) / 128, (tensor.shape[1] + 127) / 128}, {}};
      Formula scales(options.seed, t + 100000);
      for (std::int64_t i = 0; i < scale.shape[0] * scale.shape[1]; ++i)
        formula_detail::put(scale.bytes, static_cast<float>((1.5 + scales.next_u()) / 1024.0));
      out.push_back(std::move(scale));
    }
    ++t;
  }
  return out;
}

// Writes config.json and the tensors into `directory`, which is made.
inline runtime::Status write_checkpoint(const std::filesystem::path& directory, const std::string& config_json,
                                        const std::vector<WrittenTensor>& tensors, int shard_count = 1) {
  std::filesystem::create_directories(directory);
  std::ofstream(directory / "config.json") << config_json;
  std::string weight_map;
  for (int shard = 0; shard < shard_count; ++shard) {
    const std::string file = shard_count == 1 ? "model.safetensors" : "model-" + std::to_string(shard) + ".safetensors";
    std::vector<model::NamedTensor> named;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      if (static_cast<int>(i) % shard_count != shard) continue;
      const WrittenTensor& t = tensors[i];
      const std::byte* data = t.bytes.data();
      named.push_back({t.name, t.shape.size() == 1
                                   ? runtime::ConstTensorView(data, t.dtype, {t.shape[0]})
                                   : runtime::ConstTensorView(data, t.dtype, {t.shape[0], t.shape[1]})});
      weight_map += (weight_map.empty() ? "\"" : ", \"") + t.name + "\": \"" + file + "\"";
    }
    CONSORT_RETURN_IF_ERROR(model::write_safetensors(directory / file, named));
  }
  if (shard_count > 1)
    std::ofstream(directory / "model.safetensors.index.json")
        << "{\"metadata\": {}, \"weight_map\": {" << weight_map << "}}";
  return runtime::done();
}

inline runtime::Status write_formula_checkpoint(const std::filesystem::path& directory, const std::string& config_json,
                                                const FormulaOptions& options = {}) {
  model::ModelConfig config;
  CONSORT_TRY(config, model::parse_config(config_json, "formula checkpoint"));
  return write_checkpoint(directory, config_json, formula_weights(config, options), options.shard_count);
}

// config.json of a small DeepSeek-V3 with everything in it; `changes` replace values (JSON text), "" takes a
// key away.
inline std::string small_config(const std::map<std::string, std::string>& changes = {}) {
  std::map<std::string, std::string> values{
      {"model_type", "\"deepseek_v3\""},
      {"vocab_size", "96"},
      {"hidden_size", "64"},
      {"intermediate_size", "80"},
      {"moe_intermediate_size", "48"},
      {"num_hidden_layers", "3"},
      {"num_attention_heads", "4"},
      {"num_key_value_heads", "4"},
      {"q_lora_rank", "24"},
      {"kv_lora_rank", "32"},
      {"qk_nope_head_dim", "12"},
      {"qk_rope_head_dim", "8"},
      {"v_head_dim", "20"},
      {"n_routed_experts", "16"},
      {"n_group", "4"},
      {"topk_group", "2"},
      {"num_experts_per_tok", "4"},
      {"n_shared_experts", "1"},
      {"first_k_dense_replace", "1"},
      {"routed_scaling_factor", "2.5"},
      {"norm_topk_prob", "true"},
      {"scoring_func", "\"sigmoid\""},
      {"topk_method", "\"noaux_tc\""},
      {"hidden_act", "\"silu\""},
      {"max_position_embeddings", "2560"},
      {"rope_theta", "10000.0"},
      {"rms_norm_eps", "1e-06"},
      {"tie_word_embeddings", "false"},
      {"attention_bias", "false"},
      {"bos_token_id", "0"},
      {"eos_token_id", "1"},
      {"rope_scaling",
       "{\"type\": \"yarn\", \"factor\": 40, \"original_max_position_embeddings\": 64, \"beta_fast\": 32, "
       "\"beta_slow\": 1, \"mscale\": 1.0, \"mscale_all_dim\": 1.0}"}};
  for (const auto& [key, value] : changes) values[key] = value;
  std::string text;
  for (const auto& [key, value] : values)
    if (!value.empty()) text += (text.empty() ? "{\"" : ", \"") + key + "\": " + value;
  return text + "}";
}

// A directory that is removed when the test ends.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "consort-test-XXXXXX").string();
    path_ = ::mkdtemp(name.data()) != nullptr ? name : std::string();
  }
  ~TemporaryDirectory() {
    std::error_code code;
    if (!path_.empty()) std::filesystem::remove_all(path_, code);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace consort::tests
