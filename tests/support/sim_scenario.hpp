// A small random model and cluster files in the build folder, for tests of simulated clusters.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "cli/simulate/scenario.hpp"

namespace consort::tests {

// One dense and two MoE layers of 8 experts, as small as the kernels' units allow; made once per build folder.
inline std::string small_checkpoint() {
  const std::filesystem::path folder = std::filesystem::path(CONSORT_BINARY_DIR) / "test-models" / "small-v3";
  if (!std::filesystem::exists(folder / "config.json")) {
    const std::filesystem::path draft = folder.string() + "." + std::to_string(::getpid());
    const std::string command =
        "python3 " CONSORT_SOURCE_DIR "/tools/make_checkpoint.py " + draft.string() +
        " --seed 7 --set num_hidden_layers=3 hidden_size=64 intermediate_size=96 moe_intermediate_size=32 vocab_size=64"
        " num_attention_heads=2 num_key_value_heads=2 q_lora_rank=32 n_routed_experts=8 n_group=2 topk_group=1"
        " num_experts_per_tok=3 max_position_embeddings=256";
    if (std::system(command.c_str()) != 0) return {};
    std::error_code taken;  // another test may have been faster
    std::filesystem::rename(draft, folder, taken);
  }
  return folder.string();
}

// The three nodes of the README with that model; `extra` goes under [cluster].
inline cli::SimClusterOptions small_cluster(const std::string& name, const std::string& extra) {
  const std::filesystem::path folder = std::filesystem::path(CONSORT_BINARY_DIR) / "test-models";
  const std::string model = small_checkpoint();
  const std::string text =
      "[cluster]\nname = \"" + name + "\"\nmodel = \"" + model + "\"\n" + extra +
      "\n[[node]]\nname = \"desk\"\nhost = \"127.0.0.1\"\nroles = [\"coordinator\", \"batcher\", \"trunk\", "
      "\"experts\"]\n"
      "memory = \"64MiB\"\n"
      "[[node]]\nname = \"attic\"\nhost = \"127.0.0.1\"\nroles = [\"trunk\", \"experts\"]\nmemory = \"64MiB\"\n"
      "[[node]]\nname = \"garage\"\nhost = \"127.0.0.1\"\nroles = [\"experts\"]\nmemory = \"64MiB\"\n";
  const std::string path = (folder / (name + ".toml")).string();
  std::ofstream(path) << text;
  cli::SimClusterOptions options;
  options.config = cluster::parse_cluster_config(text, path).value();
  return options;
}

inline actors::GenerationRequest greedy_request(std::uint32_t prompt_tokens, std::uint32_t salt,
                                                std::uint32_t max_new_tokens) {
  actors::GenerationRequest request;
  for (std::uint32_t i = 0; i < prompt_tokens; ++i) request.prompt.push_back((i * 7 + salt * 13 + i * i) % 64);
  request.sampling.temperature = 0;
  request.max_new_tokens = max_new_tokens;
  return request;
}

}  // namespace consort::tests
