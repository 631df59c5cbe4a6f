// `consort tokenize`: text to ids, or ids to text, with a model's own tokenizer.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <iostream>
#include <iterator>
#include <string>

#include "cli/commands.hpp"
#include "cli/ids_text.hpp"
#include "model/text/tokenizer.hpp"

namespace consort::cli {

int run_tokenize(const TokenizeOptions& options) {
  const auto tokenizer = model::Tokenizer::from_directory(options.model_dir);
  if (!tokenizer.ok()) return wrong_use(tokenizer.error().text);
  if (!options.ids.empty()) {
    const auto ids = parse_ids(options.ids);
    if (!ids.ok()) return wrong_use(ids.error().text);
    std::printf("%s\n", tokenizer->decode(*ids, false).c_str());
    return kExitOk;
  }
  std::string text = options.text;
  if (text.empty()) text.assign(std::istreambuf_iterator<char>(std::cin), {});
  const auto ids = tokenizer->encode(text);
  if (!ids.ok()) return job_failed(ids.error().text);
  std::printf("%s\n", print_ids(*ids).c_str());
  return kExitOk;
}

}  // namespace consort::cli
