// `consort inspect`: parameters, active parameters, bytes by part and dtype, KV bytes per token.
// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>
#include <cstdio>
#include <map>
#include <string>

#include "cli/commands.hpp"
#include "model/checkpoint.hpp"
#include "model/kv_pages.hpp"
#include "model/part.hpp"

namespace consort::cli {
namespace {

// Where a tensor belongs in the table; in the order in which the table prints.
const char* part_of_model(const std::string& name) {
  const auto has = [&](const char* piece) { return name.find(piece) != std::string::npos; };
  if (has("embed_tokens")) return "embedding";
  if (has("lm_head")) return "head";
  if (has(".mlp.experts.")) return "routed experts";
  if (has(".mlp.shared_experts.")) return "shared experts";
  if (has(".mlp.gate.")) return "gates";
  if (has(".mlp.")) return "dense ffn";
  if (has(".self_attn.") && !has("layernorm")) return "attention";
  return "norms";
}

struct Share {
  std::uint64_t parameters = 0;  // scales are not parameters
  std::map<std::string, std::uint64_t> bytes_by_dtype;
  std::uint64_t bytes = 0;
};

struct Census {
  std::map<std::string, Share> parts;
  std::uint64_t parameters = 0;
  std::uint64_t active = 0;  // of one token: every part but the experts that it is not sent to
  std::uint64_t bytes = 0;
};

Census count(const model::Checkpoint& checkpoint) {
  Census census;
  for (const model::TensorEntry* tensor : checkpoint.tensors()) {
    Share& share = census.parts[part_of_model(tensor->name)];
    std::uint64_t elements = 1;
    for (auto d : tensor->shape) elements *= static_cast<std::uint64_t>(d);
    const std::uint64_t bytes = tensor->end - tensor->begin;
    if (!tensor->name.ends_with("_scale_inv")) share.parameters += elements;
    share.bytes_by_dtype[std::string(runtime::name(tensor->dtype))] += bytes;
    share.bytes += bytes;
  }
  const auto& config = checkpoint.config();
  for (const auto& [part, share] : census.parts) {
    census.parameters += share.parameters;
    census.bytes += share.bytes;
    census.active += part == "routed experts" && config.n_routed_experts > 0
                         ? share.parameters / static_cast<std::uint64_t>(config.n_routed_experts) *
                               static_cast<std::uint64_t>(config.num_experts_per_tok)
                         : share.parameters;
  }
  return census;
}

std::uint64_t kv_bytes_per_token(const model::ModelConfig& config) {
  return model::KvPages::page_bytes(config, config.num_hidden_layers) /
         static_cast<std::uint64_t>(model::kPagePositions);
}

void print_json(const model::Checkpoint& checkpoint, const Census& census) {
  boost::json::object parts;
  for (const auto& [part, share] : census.parts) {
    boost::json::object dtypes;
    for (const auto& [dtype, bytes] : share.bytes_by_dtype) dtypes[dtype] = bytes;
    parts[part] = {{"parameters", share.parameters}, {"bytes", share.bytes}, {"bytes_by_dtype", dtypes}};
  }
  const auto& config = checkpoint.config();
  const boost::json::object all{{"model_type", config.model_type},
                                {"parameters", census.parameters},
                                {"active_parameters", census.active},
                                {"bytes", census.bytes},
                                {"kv_bytes_per_token", kv_bytes_per_token(config)},
                                {"cut_unit_columns", model::cut_unit(config)},
                                {"ignored_tensors", checkpoint.ignored().size()},
                                {"parts", parts}};
  std::printf("%s\n", boost::json::serialize(all).c_str());
}

void print_table(const model::Checkpoint& checkpoint, const Census& census) {
  const auto& config = checkpoint.config();
  std::printf("%s: %s, %ld layers (%ld dense), hidden %ld, %ld experts of %ld columns, %ld per token\n\n",
              checkpoint.directory().c_str(), config.model_type.c_str(), config.num_hidden_layers,
              config.first_k_dense_replace, config.hidden_size, config.n_routed_experts, config.moe_intermediate_size,
              config.num_experts_per_tok);
  std::printf("%-16s %16s %18s  %s\n", "part", "parameters", "bytes", "by dtype");
  for (const auto& [part, share] : census.parts) {
    std::string dtypes;
    for (const auto& [dtype, bytes] : share.bytes_by_dtype) dtypes += dtype + " " + std::to_string(bytes) + "  ";
    std::printf("%-16s %16lu %18lu  %s\n", part.c_str(), share.parameters, share.bytes, dtypes.c_str());
  }
  std::printf("%-16s %16lu %18lu\n\n", "all", census.parameters, census.bytes);
  std::printf("active parameters per token   %lu\n", census.active);
  std::printf("KV bytes per token            %lu (F32 latents, all layers)\n", kv_bytes_per_token(config));
  std::printf("experts can be cut in         %ld columns\n", model::cut_unit(config));
  if (!checkpoint.ignored().empty()) {
    std::printf("left alone                    %zu tensors (multi-token prediction and the like)\n",
                checkpoint.ignored().size());
  }
}

}  // namespace

int run_inspect(const InspectOptions& options) {
  const auto checkpoint = model::Checkpoint::open(options.model_dir);
  if (!checkpoint.ok()) return wrong_use(checkpoint.error().text);
  const Census census = count(**checkpoint);
  if (options.json) {
    print_json(**checkpoint, census);
  } else {
    print_table(**checkpoint, census);
  }
  return kExitOk;
}

}  // namespace consort::cli
