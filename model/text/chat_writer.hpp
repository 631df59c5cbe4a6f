// ChatWriter: writes a conversation by a format's rules: markers as ids, all between two markers encoded as one text.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "model/text/chat_format.hpp"
#include "model/text/chat_rules.hpp"
#include "model/text/tokenizer.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

class ChatWriter {
 public:
  ChatWriter(const Tokenizer& tokenizer, const ChatRules& rules) : tokenizer_(tokenizer), rules_(rules) {}

  runtime::Status begin(std::span<const ChatMessage> messages, std::span<const ToolDescription> tools);
  runtime::Status turn(const ChatMessage& message);
  runtime::Outcome<RenderedChat> finish(bool add_generation_prompt);

 private:
  runtime::Status own(std::string_view text);  // the format's own
  void content(std::string_view text);
  runtime::Status flush();
  runtime::Status describe(std::span<const ToolDescription> tools);
  runtime::Status assistant(const ChatMessage& message);
  runtime::Status calls(const ChatMessage& message);
  runtime::Status call(const ToolCall& call);
  runtime::Status output(const ChatMessage& message);
  std::string_view without_thought(std::string_view content) const;

  const Tokenizer& tokenizer_;
  const ChatRules& rules_;
  RenderedChat chat_;
  std::string run_;
  // As the templates keep it.
  bool after_user_ = false;
  bool after_tool_ = false;
  bool has_opened_calls_ = false;
  bool has_opened_outputs_ = false;
};

}  // namespace consort::model
