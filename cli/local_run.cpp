// `consort generate --model` and `consort logits --model`: the whole model in this process.
// SPDX-License-Identifier: Apache-2.0
#include "cli/local_run.hpp"

#include <algorithm>
#include <cstdio>
#include <unistd.h>

#include "cli/house/local_device.hpp"
#include "cli/ids_text.hpp"
#include "cli/logits_tensors.hpp"
#include "cli/prompt.hpp"
#include "cli/token_printer.hpp"
#include "model/local_generation.hpp"
#include "model/sampler.hpp"

namespace consort::cli {

using runtime::Outcome;

namespace {

// A line on a terminal that says how far loading is; nothing where standard error is no terminal.
model::Progress loading_line() {
  if (::isatty(STDERR_FILENO) == 0) return {};
  return [](std::uint64_t done_bytes, std::uint64_t total_bytes) {
    if (total_bytes == 0) return;
    std::fprintf(stderr, "\rreading %lu of %lu MB%s", done_bytes >> 20, total_bytes >> 20,
                 done_bytes == total_bytes ? "\r\033[K" : "");
  };
}

Outcome<std::shared_ptr<const model::LocalModel>> load(const ModelSource& source) {
  std::optional<model::NumericPlan> plan;
  if (!source.numeric_plan_file.empty()) {
    CONSORT_TRY(plan, read_numeric_plan(source.numeric_plan_file));
  }
  return model::LocalModel::load(source.model_dir, plan, loading_line());
}

// Refuses ids that the model has no row for, and positions beyond what it was made for.
runtime::Status check_request(const model::ModelConfig& config, std::span<const std::int32_t> ids,
                              std::size_t positions) {
  for (const std::int32_t id : ids) {
    if (id < config.vocab_size) continue;
    return runtime::failure(runtime::ErrorKind::kInvalid, "token id " + std::to_string(id) +
                                                              " is outside the model's vocabulary of " +
                                                              std::to_string(config.vocab_size));
  }
  if (config.max_position_embeddings == 0 ||
      static_cast<std::int64_t>(positions) <= config.max_position_embeddings) {
    return runtime::done();
  }
  return runtime::failure(runtime::ErrorKind::kInvalid,
                          "prompt and new tokens come to " + std::to_string(positions) + " positions, the model has " +
                              std::to_string(config.max_position_embeddings) + ": shorten the prompt or --max-new-tokens");
}

// One token after the other from the last row's logits.
int generate_tokens(const GenerateOptions& options, const Prompt& prompt, std::span<const std::int32_t> stop_ids,
                    model::LocalGeneration& generation, TokenPrinter& printer) {
  const model::SamplingParams params = sampling_of(options);
  const auto deadline = std::chrono::steady_clock::now() + options.deadline;
  const auto sequence = generation.open();
  auto logits = generation.prefill(sequence, prompt.ids, options.chunk_tokens);
  for (int made = 0;; ++made) {
    if (!logits.ok()) return job_failed(logits.error().text);
    const auto row = logits->row(logits->rows() - 1);
    const auto position = static_cast<std::uint64_t>(generation.length(sequence));
    const auto sampled = model::sample(row, params, position);
    if (!sampled.ok()) return job_failed(sampled.error().text);
    printer.token(sampled->token, sampled->logprob, model::logits_crc(row));
    if (std::ranges::find(stop_ids, sampled->token) != stop_ids.end()) {
      printer.end("stop", "");
      return kExitOk;
    }
    if (made + 1 == options.max_new_tokens) {
      printer.end("length", "");
      return kExitOk;
    }
    if (std::chrono::steady_clock::now() > deadline) {
      printer.end("deadline", "the deadline passed after " + std::to_string(made + 1) + " tokens");
      return job_failed("the deadline passed after " + std::to_string(made + 1) + " tokens: raise --deadline");
    }
    const model::LocalGeneration::Rows rows{sequence, {sampled->token}, 1};
    logits = generation.step(std::span(&rows, 1));
  }
}

}  // namespace

model::SamplingParams sampling_of(const GenerateOptions& options) {
  model::SamplingParams params;
  params.temperature = static_cast<float>(options.temperature);
  params.top_p = static_cast<float>(options.top_p);
  params.top_k = options.top_k;
  params.min_p = static_cast<float>(options.min_p);
  params.seed = options.seed;
  return params;
}

int generate_locally(const GenerateOptions& options) {
  const auto tokenizer = tokenizer_of(options.source.model_dir);
  if (!tokenizer.ok()) return wrong_use(tokenizer.error().text);
  const auto prompt = make_prompt(options, *tokenizer);
  if (!prompt.ok()) return wrong_use(prompt.error().text);
  const auto model = load(options.source);
  if (!model.ok()) return wrong_use(model.error().text);
  const std::size_t positions = prompt->ids.size() + static_cast<std::size_t>(options.max_new_tokens);
  if (const auto fits = check_request((*model)->config(), prompt->ids, positions); !fits.ok()) return wrong_use(fits.error().text);
  const auto stop_ids = stop_ids_of(options, *tokenizer);
  return on_local_device([&](runtime::Workers& workers) {
    model::LocalGeneration generation(*model, model::pages_for(static_cast<std::int64_t>(positions)), workers);
    TokenPrinter printer(*tokenizer, options.json, prompt->shown_first);
    return generate_tokens(options, *prompt, stop_ids, generation, printer);
  });
}

int logits_locally(const LogitsOptions& options) {
  const auto ids = parse_ids(options.ids);
  if (!ids.ok()) return wrong_use(ids.error().text);
  const auto model = load(options.source);
  if (!model.ok()) return wrong_use(model.error().text);
  if (const auto fits = check_request((*model)->config(), *ids, ids->size()); !fits.ok()) return wrong_use(fits.error().text);
  LogitsTensors tensors(*ids);
  const auto count = static_cast<std::int64_t>(ids->size());
  const int code = on_local_device([&](runtime::Workers& workers) {
    model::LocalGeneration generation(*model, model::pages_for(count), workers);
    LogitsCapture capture(tensors);
    const auto logits = generation.prefill(generation.open(), *ids, options.chunk_tokens, count, &capture);
    if (!logits.ok()) return job_failed(logits.error().text);
    const auto out = tensors.f32("logits", logits->cols());
    for (std::int64_t r = 0; r < count; ++r) {
      std::ranges::copy(logits->row(r), out.begin() + r * logits->cols());
    }
    return kExitOk;
  });
  if (code != kExitOk) return code;
  const auto written = tensors.write(options.out);
  return written.ok() ? kExitOk : job_failed(written.error().text);
}

}  // namespace consort::cli
