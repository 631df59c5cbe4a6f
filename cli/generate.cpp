// `consort generate` and `consort logits`: choose where the model lives, check the flags that both places share.
// SPDX-License-Identifier: Apache-2.0
#include "cli/cluster_run.hpp"
#include "cli/commands.hpp"
#include "cli/house/state_folder.hpp"
#include "cli/local_run.hpp"

namespace consort::cli {

runtime::Outcome<model::NumericPlan> read_numeric_plan(const std::string& file) {
  CONSORT_TRY(const std::string text, StateFolder::read(file));
  return model::plan_from_json(text, file);
}

int run_generate(const GenerateOptions& options) {
  if (const auto sampling = model::check(sampling_of(options)); !sampling.ok()) return wrong_use(sampling.error().text);
  if (options.max_new_tokens < 1) return wrong_use("--max-new-tokens: at least 1");
  if (options.chunk_tokens < 1) return wrong_use("--chunk-tokens: at least 1");
  if (options.deadline.count() < 1) return wrong_use("--deadline: at least 1 millisecond");
  return options.source.model_dir.empty() ? generate_on_cluster(options) : generate_locally(options);
}

int run_logits(const LogitsOptions& options) {
  if (options.chunk_tokens < 1) return wrong_use("--chunk-tokens: at least 1");
  return options.source.model_dir.empty() ? logits_on_cluster(options) : logits_locally(options);
}

}  // namespace consort::cli
