#include "model/text/chat_writer.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "model/json_text.hpp"

namespace consort::model {

using runtime::ErrorKind;
using runtime::Outcome;
using runtime::Status;

namespace {

// Every token that a format may write.
constexpr std::array<std::string_view, 15> kMarkers = {
    marker::kBegin,     marker::kEnd,          marker::kUser,       marker::kAssistant,   "<think>",
    "</think>",         marker::kCallsBegin,   marker::kCallsEnd,   marker::kCallBegin,   marker::kCallEnd,
    marker::kSeparator, marker::kOutputsBegin, marker::kOutputsEnd, marker::kOutputBegin, marker::kOutputEnd};

bool applies(Marker when, bool after_user) {
  return when == Marker::kAlways || (when == Marker::kAfterUser) == after_user;
}

std::string collected_system(std::span<const ChatMessage> messages) {
  std::string system;
  bool first = true;
  for (const ChatMessage& message : messages) {
    if (message.role != ChatRole::kSystem) continue;
    if (!std::exchange(first, false)) system += "\n\n";
    system += message.content;
  }
  return system;
}

}  // namespace

Status ChatWriter::own(std::string_view text) {
  chat_.text += text;
  while (!text.empty()) {
    const auto marker = std::find_if(kMarkers.begin(), kMarkers.end(), [&](auto m) { return text.starts_with(m); });
    if (marker == kMarkers.end()) {
      run_ += text.front();
      text.remove_prefix(1);
      continue;
    }
    const auto id = tokenizer_.added_token_id(*marker);
    if (!id) {
      return runtime::failure(ErrorKind::kInvalid,
                              "chat format " + std::string(rules_.name) + " needs the token " + std::string(*marker) +
                                  ", which this tokenizer does not have; formats are " + chat_format_names());
    }
    CONSORT_RETURN_IF_ERROR(flush());
    chat_.ids.push_back(*id);
    text.remove_prefix(marker->size());
  }
  return runtime::done();
}

void ChatWriter::content(std::string_view text) {
  chat_.text += text;
  run_ += text;
}

Status ChatWriter::flush() {
  if (run_.empty()) return runtime::done();
  CONSORT_TRY(const auto ids, tokenizer_.encode(run_, {.add_special_tokens = false, .match_added_tokens = false}));
  chat_.ids.insert(chat_.ids.end(), ids.begin(), ids.end());
  run_.clear();
  return runtime::done();
}

std::string_view ChatWriter::without_thought(std::string_view content) const {
  constexpr std::string_view kThoughtEnd = "</think>";
  if (rules_.thought == Thought::kKept) return content;
  const std::size_t at = rules_.thought == Thought::kAfterLast ? content.rfind(kThoughtEnd) : content.find(kThoughtEnd);
  return at == std::string_view::npos ? content : content.substr(at + kThoughtEnd.size());
}

Status ChatWriter::begin(std::span<const ChatMessage> messages, std::span<const ToolDescription> tools) {
  CONSORT_RETURN_IF_ERROR(own(marker::kBegin));
  const std::string system = rules_.system == SystemPlace::kCollected ? collected_system(messages) : std::string();
  content(system);
  if (tools.empty()) return runtime::done();
  if (!system.empty()) CONSORT_RETURN_IF_ERROR(own("\n\n"));
  return describe(tools);
}

Status ChatWriter::describe(std::span<const ToolDescription> tools) {
  CONSORT_RETURN_IF_ERROR(own("## Tools\nYou have access to the following tools:\n\n"));
  for (const ToolDescription& tool : tools) {
    CONSORT_RETURN_IF_ERROR(own("### "));
    content(tool.name);
    CONSORT_RETURN_IF_ERROR(own("\nDescription: "));
    content(tool.description);
    CONSORT_RETURN_IF_ERROR(own("\n\nParameters: "));
    CONSORT_TRY(const std::string parameters, spaced_json(tool.parameters.empty() ? "{}" : tool.parameters));
    content(parameters);
    CONSORT_RETURN_IF_ERROR(own("\n\n"));
  }
  CONSORT_RETURN_IF_ERROR(own("IMPORTANT: ALWAYS adhere to this exact format for tool use:\n"));
  CONSORT_RETURN_IF_ERROR(own(marker::kCallsBegin));
  CONSORT_RETURN_IF_ERROR(call({"tool_call_name", "tool_call_arguments"}));
  CONSORT_RETURN_IF_ERROR(own("{additional_tool_calls}"));
  CONSORT_RETURN_IF_ERROR(own(marker::kCallsEnd));
  CONSORT_RETURN_IF_ERROR(
      own("\n\nWhere:\n- `tool_call_name` must be an exact match to one of the available tools\n"
          "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n"));
  return own(rules_.tools == ToolStyle::kV31
                 ? "- For multiple tool calls, chain them directly without separators or spaces"
                 : "- For multiple tool calls, separate them by a line feed");
}

Status ChatWriter::turn(const ChatMessage& message) {
  switch (message.role) {
    case ChatRole::kSystem:
      if (rules_.system == SystemPlace::kCollected) return runtime::done();
      content(message.content);
      return own(rules_.after_system);
    case ChatRole::kUser:
      after_user_ = true;
      after_tool_ = false;
      CONSORT_RETURN_IF_ERROR(own(rules_.before_user));
      content(message.content);
      return own(rules_.after_user);
    case ChatRole::kAssistant:
      return message.tool_calls.empty() ? assistant(message) : calls(message);
    case ChatRole::kTool:
      return output(message);
  }
  return runtime::done();
}

Status ChatWriter::assistant(const ChatMessage& message) {
  const bool ends_outputs = std::exchange(after_tool_, false);
  if (ends_outputs) {
    if (rules_.tools != ToolStyle::kV31) CONSORT_RETURN_IF_ERROR(own(marker::kOutputsEnd));
    content(rules_.strips_after_outputs ? without_thought(message.content) : message.content);
  } else {
    if (applies(rules_.before_assistant_when, after_user_)) CONSORT_RETURN_IF_ERROR(own(rules_.before_assistant));
    content(without_thought(message.content));
  }
  after_user_ = false;
  return own(rules_.after_assistant);
}

Status ChatWriter::call(const ToolCall& call) {
  CONSORT_RETURN_IF_ERROR(own(marker::kCallBegin));
  if (rules_.tools != ToolStyle::kV31) {
    CONSORT_RETURN_IF_ERROR(own("function"));
    CONSORT_RETURN_IF_ERROR(own(marker::kSeparator));
    content(call.name);
    CONSORT_RETURN_IF_ERROR(own("\n```json\n"));
    content(call.arguments);
    CONSORT_RETURN_IF_ERROR(own("\n```"));
  } else {
    content(call.name);
    CONSORT_RETURN_IF_ERROR(own(marker::kSeparator));
    content(call.arguments);
  }
  return own(marker::kCallEnd);
}

Status ChatWriter::calls(const ChatMessage& message) {
  if (rules_.tools == ToolStyle::kNone) {
    return runtime::failure(ErrorKind::kInvalid, "chat format " + std::string(rules_.name) + " has no calls of tools");
  }
  if (rules_.tools == ToolStyle::kV3Turns) {
    if (after_tool_) CONSORT_RETURN_IF_ERROR(own(marker::kOutputsEnd));
    has_opened_outputs_ = false;
  }
  if (rules_.tools != ToolStyle::kV3) has_opened_calls_ = false;
  const bool has_marker = rules_.tools == ToolStyle::kV31 && after_user_;
  if (has_marker) CONSORT_RETURN_IF_ERROR(own(rules_.before_assistant));
  after_user_ = after_tool_ = false;
  for (const ToolCall& one : message.tool_calls) {
    if (!std::exchange(has_opened_calls_, true)) {
      if (rules_.tools == ToolStyle::kV3) CONSORT_RETURN_IF_ERROR(own(rules_.before_assistant));
      content(rules_.strips_after_outputs ? without_thought(message.content) : message.content);
      CONSORT_RETURN_IF_ERROR(own(marker::kCallsBegin));
    } else if (rules_.tools != ToolStyle::kV31) {
      CONSORT_RETURN_IF_ERROR(own("\n"));
    }
    CONSORT_RETURN_IF_ERROR(call(one));
  }
  CONSORT_RETURN_IF_ERROR(own(marker::kCallsEnd));
  return own(marker::kEnd);
}

Status ChatWriter::output(const ChatMessage& message) {
  if (rules_.tools == ToolStyle::kNone) {
    return runtime::failure(ErrorKind::kInvalid,
                            "chat format " + std::string(rules_.name) + " has no outputs of tools");
  }
  after_user_ = false;
  after_tool_ = true;
  if (rules_.tools != ToolStyle::kV31) {
    if (!std::exchange(has_opened_outputs_, true)) {
      CONSORT_RETURN_IF_ERROR(own(marker::kOutputsBegin));
    } else if (rules_.tools == ToolStyle::kV3Turns) {
      CONSORT_RETURN_IF_ERROR(own("\n"));
    }
  }
  CONSORT_RETURN_IF_ERROR(own(marker::kOutputBegin));
  content(message.content);
  return own(marker::kOutputEnd);
}

Outcome<RenderedChat> ChatWriter::finish(bool add_generation_prompt) {
  if (after_tool_) {
    if (rules_.tools != ToolStyle::kV31) CONSORT_RETURN_IF_ERROR(own(marker::kOutputsEnd));
  } else if (add_generation_prompt && applies(rules_.generation_prompt_when, after_user_)) {
    CONSORT_RETURN_IF_ERROR(own(rules_.generation_prompt));
    chat_.opens_thought = rules_.answer_start.starts_with("<think>");
  }
  CONSORT_RETURN_IF_ERROR(flush());
  return std::move(chat_);
}

}  // namespace consort::model
