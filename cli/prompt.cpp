#include "cli/prompt.hpp"

#include <filesystem>

#include "cli/ids_text.hpp"
#include "model/text/chat_format.hpp"

namespace consort::cli {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;

Outcome<std::optional<model::Tokenizer>> tokenizer_of(const std::string& model_dir) {
  if (!std::filesystem::exists(std::filesystem::path(model_dir) / "tokenizer.json")) {
    return std::optional<model::Tokenizer>();
  }
  auto tokenizer = model::Tokenizer::from_directory(model_dir);
  if (!tokenizer.ok()) return std::move(tokenizer).error();
  return std::optional<model::Tokenizer>(std::move(tokenizer).value());
}

namespace {

Outcome<Prompt> render_chat(const GenerateOptions& options, const model::Tokenizer& tokenizer) {
  CONSORT_TRY(const model::ChatFormat format, model::ChatFormat::choose(options.chat_format, tokenizer));
  std::vector<model::ChatMessage> messages;
  if (!options.system.empty()) messages.push_back({model::ChatRole::kSystem, options.system});
  messages.push_back({model::ChatRole::kUser, options.chat});
  CONSORT_TRY(model::RenderedChat chat, format.render(tokenizer, messages));
  return Prompt{std::move(chat.ids), std::string(format.answer_start())};
}

}  // namespace

Outcome<Prompt> make_prompt(const GenerateOptions& options, const std::optional<model::Tokenizer>& tokenizer) {
  if (!options.ids.empty()) {
    CONSORT_TRY(std::vector<std::int32_t> ids, parse_ids(options.ids));
    return Prompt{std::move(ids), ""};
  }
  if (options.prompt.empty() && options.chat.empty()) {
    return failure(ErrorKind::kInvalid, "nothing to generate from: give --prompt, --chat or --ids");
  }
  if (!tokenizer) {
    return failure(ErrorKind::kInvalid, "the model directory has no tokenizer.json: only --ids works with it");
  }
  if (!options.chat.empty()) return render_chat(options, *tokenizer);
  CONSORT_TRY(std::vector<std::int32_t> ids, tokenizer->encode(options.prompt));
  if (ids.empty()) return failure(ErrorKind::kInvalid, "--prompt: the text has no tokens");
  return Prompt{std::move(ids), ""};
}

std::vector<std::int32_t> stop_ids_of(const GenerateOptions& options,
                                      const std::optional<model::Tokenizer>& tokenizer) {
  if (options.ignore_eos || !tokenizer) return {};
  const auto ids = tokenizer->eos_ids();
  return {ids.begin(), ids.end()};
}

}  // namespace consort::cli
