// Fuzzes a tokenizer's expressions. Input: a pattern, a NUL, a text. A pattern is refused or compiles; a text is given
// up or cut into pieces that are not empty and together are the text. SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/text/regex.hpp"
#include "model/text/utf8.hpp"
#include "runtime/check.hpp"

using namespace consort::model;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t cut = std::min(input.find('\0'), input.size());
  const std::string_view text = input.substr(std::min(cut + 1, input.size()));
  if (first_invalid_utf8(text) != std::string::npos) return 0;
  for (const auto syntax : {Regex::Syntax::kOniguruma, Regex::Syntax::kLiteral}) {
    const auto regex = Regex::compile(input.substr(0, cut), syntax);
    if (!regex.ok()) continue;
    RegexScratch scratch;
    std::vector<std::string_view> pieces;
    if (!regex->split(text, pieces, scratch).ok()) continue;
    std::string joined;
    for (std::string_view piece : pieces) {
      CONSORT_CHECK(!piece.empty());
      CONSORT_CHECK(first_invalid_utf8(piece) == std::string::npos);
      joined += piece;
    }
    CONSORT_CHECK(joined == text);
  }
  return 0;
}
