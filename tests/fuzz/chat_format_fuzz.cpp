// Fuzzes chat rendering and the recognition of templates. Input: messages, each a role byte and a content that ends in
// a NUL. In every format the ids spell the text, and only the format's own turns become markers.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "byte_tokenizer.hpp"
#include "model/text/chat_format.hpp"
#include "model/text/chat_template.hpp"
#include "runtime/check.hpp"

using namespace consort::model;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Tokenizer tokenizer = consort::fuzz::byte_tokenizer();
  std::string_view input(reinterpret_cast<const char*>(data), size);
  CONSORT_CHECK(normalised_template(input).size() <= input.size());
  (void)ChatFormat::recognise(input);

  std::vector<ChatMessage> messages;
  while (!input.empty()) {
    const auto role = static_cast<ChatRole>(static_cast<std::uint8_t>(input[0]) % 4);
    const bool has_call = role == ChatRole::kAssistant && (static_cast<std::uint8_t>(input[0]) & 64) != 0;
    input.remove_prefix(1);
    const std::size_t end = std::min(input.find('\0'), input.size());
    messages.push_back({role, std::string(input.substr(0, end))});
    if (has_call) messages.back().tool_calls = {{"f", messages.back().content}, {messages.back().content, "{}"}};
    input.remove_prefix(std::min(end + 1, input.size()));
  }
  for (const std::string_view name : ChatFormat::names()) {
    const auto rendered = ChatFormat::named(name)->render(tokenizer, messages);
    if (!rendered.ok()) continue;
    CONSORT_CHECK(tokenizer.decode(rendered->ids, false) == rendered->text);
    const auto markers = std::count_if(rendered->ids.begin(), rendered->ids.end(), [](auto id) { return id >= 256; });
    // The beginning, at most twelve per message (two calls and what is around them), two of the generation prompt, one
    // of the end of outputs.
    CONSORT_CHECK(markers <= static_cast<std::int64_t>(4 + 12 * messages.size()), markers, messages.size());
  }
  return 0;
}
