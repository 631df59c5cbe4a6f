#include "model/checkpoint.hpp"

#include <boost/json.hpp>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <set>

#include "model/digest.hpp"
#include "model/json_text.hpp"

namespace consort::model {
namespace {

namespace json = boost::json;
using runtime::Dtype;
using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

constexpr std::uintmax_t kMaxJsonBytes = 64 << 20;  // DeepSeek-V3's index is 9 MB

Outcome<std::string> read_text(const std::filesystem::path& path) {
  std::error_code code;
  const std::uintmax_t bytes = std::filesystem::file_size(path, code);
  if (code) return failure(ErrorKind::kInvalid, "cannot read " + path.string() + ": " + code.message());
  if (bytes > kMaxJsonBytes) return failure(ErrorKind::kInvalid, path.string() + " is larger than 64 MiB");
  std::ifstream in(path, std::ios::binary);
  std::string text(static_cast<std::size_t>(bytes), '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(bytes)))
    return failure(ErrorKind::kInvalid, "cannot read " + path.string());
  return text;
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace

std::string layer_name(std::int64_t layer, const std::string& rest) {
  return "model.layers." + std::to_string(layer) + "." + rest;
}

std::int64_t layer_of(const std::string& name) {
  constexpr std::string_view prefix = "model.layers.";
  if (!name.starts_with(prefix)) return -1;
  std::int64_t layer = -1;
  const char* first = name.data() + prefix.size();
  const auto [end, code] = std::from_chars(first, name.data() + name.size(), layer);
  return code == std::errc() && end != first && end != name.data() + name.size() && *end == '.' ? layer : -1;
}

Outcome<std::shared_ptr<const Checkpoint>> Checkpoint::open(const std::filesystem::path& directory) {
  std::error_code code;
  if (!std::filesystem::is_directory(directory, code))
    return failure(ErrorKind::kInvalid, directory.string() + " is not a directory with a Hugging Face checkpoint");
  std::shared_ptr<Checkpoint> checkpoint(new Checkpoint);
  checkpoint->directory_ = directory;
  std::string text;
  CONSORT_TRY(text, read_text(directory / "config.json"));
  CONSORT_TRY(checkpoint->config_, parse_config(text, (directory / "config.json").string()));
  CONSORT_RETURN_IF_ERROR(checkpoint->open_files());
  CONSORT_RETURN_IF_ERROR(checkpoint->check_inventory());

  Digest digest;
  digest.add(text);
  for (const auto& file : checkpoint->files_) {
    digest.add(std::filesystem::path(file->path()).filename().string());
    digest.add(file->digest());
  }
  checkpoint->manifest_hash_ = digest.value();
  return std::shared_ptr<const Checkpoint>(std::move(checkpoint));
}

Status Checkpoint::open_files() {
  std::error_code code;
  if (std::filesystem::exists(directory_ / "model.safetensors", code)) return add_file("model.safetensors", nullptr);
  const auto index = directory_ / "model.safetensors.index.json";
  if (std::filesystem::exists(index, code)) return open_index(index);
  return failure(ErrorKind::kInvalid,
                 directory_.string() + " has neither model.safetensors nor model.safetensors.index.json");
}

Status Checkpoint::open_index(const std::filesystem::path& path) {
  std::string text;
  CONSORT_TRY(text, read_text(path));
  CONSORT_RETURN_IF_ERROR(check_json(text, path.string()));
  json::error_code code;
  const json::value root = json::parse(text, code);
  const json::value* map = code || !root.is_object() ? nullptr : root.get_object().if_contains("weight_map");
  if (map == nullptr || !map->is_object())
    return failure(ErrorKind::kInvalid, path.string() + ": weight_map is missing");

  std::unordered_map<std::string, std::string> weight_map;
  std::set<std::string> names;
  for (const auto& [key, value] : map->get_object()) {
    const std::string tensor(key.data(), key.size());
    if (!value.is_string()) return failure(ErrorKind::kInvalid, path.string() + ": '" + tensor + "' has no file name");
    const std::string file(value.get_string().data(), value.get_string().size());
    if (file.empty() || file.find('/') != std::string::npos || file.find('\0') != std::string::npos)
      return failure(ErrorKind::kInvalid, path.string() + ": '" + tensor + "' is said to be in '" + file +
                                              "', which is no file name in this directory");
    weight_map.emplace(tensor, file);
    names.insert(file);
  }
  for (const std::string& name : names) CONSORT_RETURN_IF_ERROR(add_file(name, &weight_map));
  for (const auto& [tensor, file] : weight_map) {
    if (!places_.contains(tensor))
      return failure(ErrorKind::kInvalid,
                     path.string() + ": '" + tensor + "' is said to be in " + file + ", which does not have it");
  }
  return runtime::done();
}

Status Checkpoint::add_file(const std::string& file_name,
                            const std::unordered_map<std::string, std::string>* weight_map) {
  std::unique_ptr<const SafetensorsFile> file;
  CONSORT_TRY(file, SafetensorsFile::open(directory_ / file_name, counter_));
  for (const TensorEntry& entry : file->tensors()) {
    if (weight_map != nullptr) {
      const auto found = weight_map->find(entry.name);
      if (found == weight_map->end() || found->second != file_name)
        return failure(ErrorKind::kInvalid,
                       file->path() + " has '" + entry.name + "', but the index does not place it there");
    }
    places_.emplace(entry.name, Place{file.get(), &entry});
  }
  files_.push_back(std::move(file));
  return runtime::done();
}

Status Checkpoint::check_tensor(const std::string& name, std::initializer_list<std::int64_t> shape, bool quantisable) {
  const TensorEntry* entry = find(name);
  if (entry == nullptr)
    return failure(ErrorKind::kInvalid, directory_.string() + ": the tensor '" + name + "' is missing");
  const auto bad = [&](const std::string& what) {
    return failure(ErrorKind::kInvalid, directory_.string() + ": the tensor '" + name + "' " + what);
  };
  if (!std::equal(shape.begin(), shape.end(), entry->shape.begin(), entry->shape.end()))
    return bad("has shape " + shape_text(entry->shape) + " where config.json needs " +
               shape_text(std::span(shape.begin(), shape.size())));
  needed_.emplace(name, true);
  const std::string scale_name = name + "_scale_inv";
  if (entry->dtype == Dtype::kF8E4m3) {
    if (!quantisable) return bad("has dtype F8_E4M3, which is supported for projections only");
    if (!config_.fp8) return bad("has dtype F8_E4M3, but config.json has no quantization_config");
    const TensorEntry* scale = find(scale_name);
    if (scale == nullptr) return bad("has dtype F8_E4M3, but '" + scale_name + "' is missing");
    const std::vector<std::int64_t> blocks{(entry->shape[0] + 127) / 128, (entry->shape[1] + 127) / 128};
    if (scale->dtype != Dtype::kF32 || scale->shape != blocks)
      return bad("needs '" + scale_name + "' as F32 " + shape_text(blocks) + ", not " +
                 std::string(runtime::name(scale->dtype)) + " " + shape_text(scale->shape));
    needed_.emplace(scale_name, true);
    return runtime::done();
  }
  if (entry->dtype != Dtype::kF32 && entry->dtype != Dtype::kF16 && entry->dtype != Dtype::kBf16)
    return bad("has dtype " + std::string(runtime::name(entry->dtype)) + "; F32, F16, BF16 and F8_E4M3 are supported");
  if (has(scale_name)) return bad("is not F8_E4M3, but has a '" + scale_name + "'");
  return runtime::done();
}

Status Checkpoint::check_inventory() {
  const ModelConfig& c = config_;
  const auto linear = [&](const std::string& name, std::int64_t out, std::int64_t in) {
    return check_tensor(name + ".weight", {out, in}, true);
  };
  const auto ffn = [&](const std::string& name, std::int64_t width) -> Status {
    CONSORT_RETURN_IF_ERROR(linear(name + "gate_proj", width, c.hidden_size));
    CONSORT_RETURN_IF_ERROR(linear(name + "up_proj", width, c.hidden_size));
    return linear(name + "down_proj", c.hidden_size, width);
  };
  CONSORT_RETURN_IF_ERROR(check_tensor("model.embed_tokens.weight", {c.vocab_size, c.hidden_size}, false));
  CONSORT_RETURN_IF_ERROR(check_tensor("model.norm.weight", {c.hidden_size}, false));
  if (!c.tie_word_embeddings || has("lm_head.weight"))
    CONSORT_RETURN_IF_ERROR(check_tensor("lm_head.weight", {c.vocab_size, c.hidden_size}, false));
  for (std::int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    const auto at = [&](const std::string& rest) { return layer_name(layer, rest); };
    CONSORT_RETURN_IF_ERROR(check_tensor(at("input_layernorm.weight"), {c.hidden_size}, false));
    CONSORT_RETURN_IF_ERROR(check_tensor(at("post_attention_layernorm.weight"), {c.hidden_size}, false));
    const std::int64_t q_rows = c.num_attention_heads * c.qk_head_dim();
    if (c.q_lora_rank == 0) {
      CONSORT_RETURN_IF_ERROR(linear(at("self_attn.q_proj"), q_rows, c.hidden_size));
    } else {
      CONSORT_RETURN_IF_ERROR(linear(at("self_attn.q_a_proj"), c.q_lora_rank, c.hidden_size));
      CONSORT_RETURN_IF_ERROR(check_tensor(at("self_attn.q_a_layernorm.weight"), {c.q_lora_rank}, false));
      CONSORT_RETURN_IF_ERROR(linear(at("self_attn.q_b_proj"), q_rows, c.q_lora_rank));
    }
    CONSORT_RETURN_IF_ERROR(linear(at("self_attn.kv_a_proj_with_mqa"), c.latent_width(), c.hidden_size));
    CONSORT_RETURN_IF_ERROR(check_tensor(at("self_attn.kv_a_layernorm.weight"), {c.kv_lora_rank}, false));
    CONSORT_RETURN_IF_ERROR(
        linear(at("self_attn.kv_b_proj"), c.num_attention_heads * (c.qk_nope_head_dim + c.v_head_dim), c.kv_lora_rank));
    CONSORT_RETURN_IF_ERROR(linear(at("self_attn.o_proj"), c.hidden_size, c.num_attention_heads * c.v_head_dim));
    if (c.is_dense(layer)) {
      CONSORT_RETURN_IF_ERROR(ffn(at("mlp."), c.intermediate_size));
      continue;
    }
    CONSORT_RETURN_IF_ERROR(check_tensor(at("mlp.gate.weight"), {c.n_routed_experts, c.hidden_size}, false));
    if (c.topk_method == TopkMethod::kNoauxTc)
      CONSORT_RETURN_IF_ERROR(check_tensor(at("mlp.gate.e_score_correction_bias"), {c.n_routed_experts}, false));
    for (std::int64_t e = 0; e < c.n_routed_experts; ++e)
      CONSORT_RETURN_IF_ERROR(ffn(at("mlp.experts." + std::to_string(e) + "."), c.moe_intermediate_size));
    if (c.n_shared_experts > 0)
      CONSORT_RETURN_IF_ERROR(ffn(at("mlp.shared_experts."), c.moe_intermediate_size * c.n_shared_experts));
  }
  for (const auto& [name, place] : places_) {
    if (needed_.contains(name)) continue;
    if (layer_of(name) >= c.num_hidden_layers || name.ends_with(".rotary_emb.inv_freq")) {
      ignored_.push_back(name);
      continue;
    }
    return failure(ErrorKind::kInvalid,
                   directory_.string() + ": the tensor '" + name + "' has no place in this architecture");
  }
  std::sort(ignored_.begin(), ignored_.end());
  return runtime::done();
}

std::vector<const TensorEntry*> Checkpoint::tensors() const {
  std::vector<const TensorEntry*> used;
  for (const auto& [name, yes] : needed_) used.push_back(places_.at(name).entry);
  std::sort(used.begin(), used.end(), [](auto* a, auto* b) { return a->name < b->name; });
  return used;
}

const TensorEntry* Checkpoint::find(const std::string& name) const {
  const auto found = places_.find(name);
  return found == places_.end() ? nullptr : found->second.entry;
}

std::shared_ptr<const Checkpoint> Checkpoint::with_own_count() const {
  auto copy = std::shared_ptr<Checkpoint>(new Checkpoint(*this));
  copy->counter_ = std::make_shared<ReadCounter>();
  return copy;
}

Status Checkpoint::read(const std::string& name, std::uint64_t offset, std::span<std::byte> out) const {
  const auto found = places_.find(name);
  CONSORT_CHECK(found != places_.end(), name);
  return found->second.file->read(*found->second.entry, offset, out, counter_.get());
}

}  // namespace consort::model
