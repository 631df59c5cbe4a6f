// Fuzzes tokenizer.json and what is encoded with it. Input: the JSON, a NUL, a text.
// A file that loads must encode or refuse any text, and decode to UTF-8.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <string_view>

#include "model/text/tokenizer.hpp"
#include "runtime/check.hpp"

using namespace consort::model;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t cut = std::min(input.find('\0'), input.size());
  const auto tokenizer = Tokenizer::from_json(input.substr(0, cut));
  if (!tokenizer.ok()) {
    CONSORT_CHECK(!tokenizer.error().text.empty());
    return 0;
  }
  const std::string_view text = input.substr(std::min(cut + 1, input.size()));
  for (const bool match_added_tokens : {true, false}) {
    const auto ids = tokenizer->encode(text, {.match_added_tokens = match_added_tokens});
    if (!ids.ok()) continue;
    for (const std::int32_t id : *ids) CONSORT_CHECK(tokenizer->token_bytes(id).has_value(), id);
    CONSORT_CHECK(first_invalid_utf8(tokenizer->decode(*ids)) == std::string::npos);
  }
  return 0;
}
