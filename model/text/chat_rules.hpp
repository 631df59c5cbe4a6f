// ChatRules: the chat formats as a table, one row for each.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace consort::model {

namespace marker {
inline constexpr std::string_view kBegin = "<｜begin▁of▁sentence｜>";
inline constexpr std::string_view kEnd = "<｜end▁of▁sentence｜>";
inline constexpr std::string_view kUser = "<｜User｜>";
inline constexpr std::string_view kAssistant = "<｜Assistant｜>";
inline constexpr std::string_view kCallsBegin = "<｜tool▁calls▁begin｜>";
inline constexpr std::string_view kCallsEnd = "<｜tool▁calls▁end｜>";
inline constexpr std::string_view kCallBegin = "<｜tool▁call▁begin｜>";
inline constexpr std::string_view kCallEnd = "<｜tool▁call▁end｜>";
inline constexpr std::string_view kSeparator = "<｜tool▁sep｜>";
inline constexpr std::string_view kOutputsBegin = "<｜tool▁outputs▁begin｜>";
inline constexpr std::string_view kOutputsEnd = "<｜tool▁outputs▁end｜>";
inline constexpr std::string_view kOutputBegin = "<｜tool▁output▁begin｜>";
inline constexpr std::string_view kOutputEnd = "<｜tool▁output▁end｜>";
}  // namespace marker

// System messages all at the beginning with "\n\n" between, or where they stand.
enum class SystemPlace { kCollected, kInPlace };
// What of an earlier answer with </think> is written.
enum class Thought { kKept, kAfterLast, kAfterFirst };
// When the marker before an assistant's turn, or the generation prompt, is written.
enum class Marker { kAlways, kAfterUser, kNotAfterUser };

// How calls of tools and their outputs are written.
//   kV3: the type, the name and fenced arguments; the first of the conversation opens the list, later ones do not (the
//        template never forgets that it has opened one), and so with outputs.
//   kV3Turns: the same with each turn and each run of outputs opened anew, a line feed between outputs.
//   kV31: the name and the bare arguments, outputs each on their own.
enum class ToolStyle { kNone, kV3, kV3Turns, kV31 };

// What is written for each turn. B, E, U, A of the reference are spelled out.
struct ChatRules {
  std::string_view name;
  SystemPlace system;
  std::string_view after_system;
  std::string_view before_user, after_user;
  std::string_view before_assistant;
  Marker before_assistant_when;
  Thought thought;
  std::string_view after_assistant;
  std::string_view generation_prompt;
  Marker generation_prompt_when;
  std::string_view answer_start;
  ToolStyle tools = ToolStyle::kNone;
  bool strips_after_outputs = false;  // thoughts leave answers to tool outputs and answers with calls, too
};

std::span<const ChatRules> chat_rules();
const ChatRules* find_chat_rules(std::string_view name);  // null where there is no such format
std::string chat_format_names();                          // "v2, v3, ..."

}  // namespace consort::model
