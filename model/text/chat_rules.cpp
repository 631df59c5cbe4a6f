#include "model/text/chat_rules.hpp"

#include <array>

namespace consort::model {
namespace {

using marker::kAssistant;
using marker::kEnd;
using marker::kUser;

constexpr std::array kFormats = {
    ChatRules{.name = "v2",
              .system = SystemPlace::kInPlace,
              .after_system = "\n\n",
              .before_user = "User: ",
              .after_user = "\n\n",
              .before_assistant = "Assistant: ",
              .before_assistant_when = Marker::kAlways,
              .thought = Thought::kKept,
              .after_assistant = kEnd,
              .generation_prompt = "Assistant:",
              .generation_prompt_when = Marker::kAlways,
              .answer_start = ""},
    ChatRules{.name = "v3",
              .system = SystemPlace::kCollected,
              .after_system = "",
              .before_user = kUser,
              .after_user = "",
              .before_assistant = kAssistant,
              .before_assistant_when = Marker::kAlways,
              .thought = Thought::kAfterLast,
              .after_assistant = kEnd,
              .generation_prompt = kAssistant,
              .generation_prompt_when = Marker::kAlways,
              .answer_start = "",
              .tools = ToolStyle::kV3},
    ChatRules{.name = "v3-0324",
              .system = SystemPlace::kCollected,
              .after_system = "",
              .before_user = kUser,
              .after_user = kAssistant,
              .before_assistant = "",
              .before_assistant_when = Marker::kAlways,
              .thought = Thought::kKept,
              .after_assistant = kEnd,
              .generation_prompt = kAssistant,
              .generation_prompt_when = Marker::kNotAfterUser,
              .answer_start = "",
              .tools = ToolStyle::kV3Turns},
    ChatRules{.name = "r1",
              .system = SystemPlace::kCollected,
              .after_system = "",
              .before_user = kUser,
              .after_user = "",
              .before_assistant = kAssistant,
              .before_assistant_when = Marker::kAlways,
              .thought = Thought::kAfterLast,
              .after_assistant = kEnd,
              .generation_prompt = "<｜Assistant｜><think>\n",
              .generation_prompt_when = Marker::kAlways,
              .answer_start = "<think>\n",
              .tools = ToolStyle::kV3},
    ChatRules{.name = "r1-0528",
              .system = SystemPlace::kCollected,
              .after_system = "",
              .before_user = kUser,
              .after_user = kAssistant,
              .before_assistant = "",
              .before_assistant_when = Marker::kAlways,
              .thought = Thought::kAfterLast,
              .after_assistant = kEnd,
              .generation_prompt = kAssistant,
              .generation_prompt_when = Marker::kNotAfterUser,
              .answer_start = "",
              .tools = ToolStyle::kV3Turns,
              .strips_after_outputs = true},
    ChatRules{.name = "v3.1",
              .system = SystemPlace::kCollected,
              .after_system = "",
              .before_user = kUser,
              .after_user = "",
              .before_assistant = "<｜Assistant｜></think>",
              .before_assistant_when = Marker::kAfterUser,
              .thought = Thought::kAfterFirst,
              .after_assistant = kEnd,
              .generation_prompt = "<｜Assistant｜></think>",
              .generation_prompt_when = Marker::kAfterUser,
              .answer_start = "",
              .tools = ToolStyle::kV31},
    ChatRules{.name = "v3.1-thinking",
              .system = SystemPlace::kCollected,
              .after_system = "",
              .before_user = kUser,
              .after_user = "",
              .before_assistant = "<｜Assistant｜></think>",
              .before_assistant_when = Marker::kAfterUser,
              .thought = Thought::kAfterFirst,
              .after_assistant = kEnd,
              .generation_prompt = "<｜Assistant｜><think>",
              .generation_prompt_when = Marker::kAfterUser,
              .answer_start = "<think>",
              .tools = ToolStyle::kV31},
    ChatRules{.name = "adder",
              .system = SystemPlace::kInPlace,
              .after_system = "",
              .before_user = kUser,
              .after_user = "",
              .before_assistant = kAssistant,
              .before_assistant_when = Marker::kAlways,
              .thought = Thought::kAfterLast,
              .after_assistant = kEnd,
              .generation_prompt = "<｜Assistant｜><think>\n",
              .generation_prompt_when = Marker::kAlways,
              .answer_start = "<think>\n"},
};

}  // namespace

std::span<const ChatRules> chat_rules() { return kFormats; }

const ChatRules* find_chat_rules(std::string_view name) {
  for (const ChatRules& rules : kFormats) {
    if (rules.name == name) return &rules;
  }
  return nullptr;
}

std::string chat_format_names() {
  std::string names;
  for (const ChatRules& rules : kFormats) names += (names.empty() ? "" : ", ") + std::string(rules.name);
  return names;
}

}  // namespace consort::model
