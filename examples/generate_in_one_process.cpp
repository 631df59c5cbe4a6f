// Generate in one process: a checkpoint directory, a prompt, tokens. No cluster, no actors: model/ is complete in itself.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <string>
#include <vector>

#include "cli/house/local_device.hpp"
#include "model/local_generation.hpp"
#include "model/text/chat_format.hpp"
#include "model/text/tokenizer.hpp"

namespace {

using namespace consort;

constexpr int kMaxNewTokens = 64;

// Appends the likeliest token until the model says that it is done. The text as it comes goes to standard output.
runtime::Outcome<std::string> answer(model::LocalGeneration& generation, const model::Tokenizer& tokenizer,
                                     std::span<const std::int32_t> prompt) {
  const auto sequence = generation.open();
  CONSORT_TRY(model::Matrix logits, generation.prefill(sequence, prompt, /*chunk_tokens=*/128));
  model::StreamDecoder decoder(tokenizer);
  std::string text;
  for (int i = 0; i < kMaxNewTokens; ++i) {
    const std::int32_t token = model::greedy_token(logits.row(logits.rows() - 1));
    if (tokenizer.is_eos(token)) break;
    const std::string piece = decoder.add(token);
    std::fputs(piece.c_str(), stdout);
    text += piece;
    const model::LocalGeneration::Rows rows{sequence, {token}, 1};
    CONSORT_TRY(logits, generation.step(std::span(&rows, 1)));
  }
  return text + decoder.finish();
}

runtime::Outcome<std::string> run(const std::string& directory, const std::string& question, runtime::Workers& workers) {
  CONSORT_TRY(const model::Tokenizer tokenizer, model::Tokenizer::from_directory(directory));
  CONSORT_TRY(const model::ChatFormat format, model::ChatFormat::choose("", tokenizer));
  const model::ChatMessage message{model::ChatRole::kUser, question};
  CONSORT_TRY(const model::RenderedChat chat, format.render(tokenizer, std::span(&message, 1)));
  CONSORT_TRY(const auto local_model, model::LocalModel::load(directory));
  model::LocalGeneration generation(local_model, model::pages_for(512), workers);
  return answer(generation, tokenizer, chat.ids);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string directory = argc > 1 ? argv[1] : "examples/models/adder";
  const std::string question = argc > 2 ? argv[2] : "12+34=?";
  return cli::on_local_device([&](runtime::Workers& workers) {
    const auto text = run(directory, question, workers);
    if (!text.ok()) {
      std::fprintf(stderr, "%s\n", text.error().text.c_str());
      return 1;
    }
    std::printf("\n");
    const bool is_default = argc <= 2;
    return is_default && !text->ends_with("46") ? 1 : 0;  // the tests run it as it is
  });
}
