// ChatFormat: how a conversation is written for a model, as token ids and as text.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/text/tokenizer.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

enum class ChatRole { kSystem, kUser, kAssistant, kTool };
runtime::Outcome<ChatRole> chat_role_from_name(std::string_view name);  // "system", "user", "assistant", "tool"

struct ToolCall {
  std::string name;
  std::string arguments;  // JSON, as the client or the model wrote it
};
struct ChatMessage {
  ChatRole role = ChatRole::kUser;
  std::string content;
  std::vector<ToolCall> tool_calls = {};  // of an assistant; the tool messages behind it answer them in their order
};
// What the model is told of a function that it may call.
struct ToolDescription {
  std::string name;
  std::string description;
  std::string parameters;  // JSON Schema as JSON; empty: none
};

struct RenderedChat {
  std::vector<std::int32_t> ids;
  std::string text;
  bool opens_thought = false;  // the last thing that is written is the beginning of a thought
};

struct ChatRules;

class ChatFormat {
 public:
  // "v2", "v3", "v3-0324", "r1", "r1-0528", "v3.1", "v3.1-thinking", "adder".
  static std::vector<std::string_view> names();
  static runtime::Outcome<ChatFormat> named(std::string_view name);

  // The format of a chat_template (Jinja source), told by the expressions that only it has; see chat_template.hpp.
  // V3.1's template serves two formats and is taken without thinking, which is its default.
  static runtime::Outcome<ChatFormat> recognise(std::string_view chat_template);

  // The named format, or where the name is empty the one that the tokenizer's chat_template asks for.
  static runtime::Outcome<ChatFormat> choose(std::string_view name, const Tokenizer& tokenizer);

  std::string_view name() const;

  // The format that writes with or without a thought: V3.1 knows both, of the others each has its one way.
  runtime::Outcome<ChatFormat> with_thinking(std::optional<bool> thinking) const;

  // What the prompt has already written of the model's answer to a user: "<think>\n" for R1. To be shown before the
  // answer.
  std::string_view answer_start() const;
  bool has_tools() const;
  bool fences_calls() const;  // "function", a name and fenced arguments, as V3 and R1 write calls

  // The whole conversation from the beginning of sentence on, and where asked the prompt for the next answer. The
  // format's own tokens become their ids; contents are encoded with added-token matching off, so that no content can
  // play another role. Tools are described behind the system's text: for V3.1 as DeepSeek says, for the formats of V3
  // and R1, whose templates pass over them, in the same words with their own way of calling.
  runtime::Outcome<RenderedChat> render(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                                        bool add_generation_prompt = true,
                                        std::span<const ToolDescription> tools = {}) const;

 private:
  explicit ChatFormat(const ChatRules& rules) : rules_(&rules) {}
  const ChatRules* rules_;  // one of a constant table
};

}  // namespace consort::model
