// Fuzzes the reader of tool calls. Input: a byte of options, then ids, of which the bytes above 240 are markers. What
// is said and what is called is all that was written, and no call has arguments that are no object.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <map>
#include <string>

#include "byte_tokenizer.hpp"
#include "model/json_text.hpp"
#include "model/text/answer_text.hpp"
#include "model/text/tool_calls.hpp"
#include "runtime/check.hpp"

using namespace consort::model;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static const Tokenizer tokenizer = consort::fuzz::byte_tokenizer();
  const auto markers = ToolMarkers::of(tokenizer).ids();
  CONSORT_CHECK(markers.size() == 5, markers.size());
  AnswerText answer(tokenizer, {true, (data[0] & 2) != 0, {}, markers});
  ToolCallReader reader(tokenizer, {(data[0] & 1) != 0, {"f", "now"}, false});
  std::map<std::uint32_t, std::string> arguments;
  std::size_t said = 0;
  const auto add = [&](const ToolCallReader::Piece& piece) {
    said += piece.content.size();
    for (const auto& call : piece.calls) {
      const bool is_first = !arguments.contains(call.index);
      CONSORT_CHECK(is_first == !call.name.empty());
      arguments[call.index] += call.arguments;
    }
  };
  std::size_t written = 0;
  const auto take = [&](const AnswerText::Piece& piece) {
    written += piece.content.size();
    if (!piece.content.empty()) add(reader.text(piece.content));
    if (!piece.marker) return;
    written += tokenizer.token_text(*piece.marker)->size();
    add(reader.marker(*piece.marker));
  };
  for (std::size_t i = 1; i < size; ++i) {
    const std::uint8_t byte = data[i];
    take(answer.add(byte > 240 ? markers[byte % markers.size()] : byte));
  }
  take(answer.finish());
  add(reader.finish());
  CONSORT_CHECK(reader.calls() == arguments.size());
  CONSORT_CHECK(said <= written, said, written);
  for (const auto& [index, text] : arguments) {
    CONSORT_CHECK(text.starts_with('{') && check_json(text, "arguments", kMaxSchemaDepth).ok(), text);
  }
  return 0;
}
