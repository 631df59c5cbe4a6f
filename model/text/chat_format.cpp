#include "model/text/chat_format.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "model/text/chat_template.hpp"

namespace consort::model {

// System messages all at the beginning with "\n\n" between, or where they stand.
enum class SystemPlace { kCollected, kInPlace };
// What of an earlier answer with </think> is written.
enum class Thought { kKept, kAfterLast, kAfterFirst };
// When the marker before an assistant's turn, or the generation prompt, is written.
enum class Marker { kAlways, kAfterUser, kNotAfterUser };

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
};

namespace {

using runtime::ErrorKind;
using runtime::Outcome;
using runtime::Status;

constexpr std::string_view kBegin = "<｜begin▁of▁sentence｜>";
constexpr std::string_view kEnd = "<｜end▁of▁sentence｜>";
constexpr std::string_view kUser = "<｜User｜>";
constexpr std::string_view kAssistant = "<｜Assistant｜>";
// Every token that a format may write.
constexpr std::array<std::string_view, 6> kMarkers = {kBegin, kEnd, kUser, kAssistant, "<think>", "</think>"};

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
              .answer_start = ""},
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
              .answer_start = ""},
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
              .answer_start = "<think>\n"},
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
              .answer_start = ""},
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
              .answer_start = ""},
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
              .answer_start = "<think>"},
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

std::string all_names() {
  std::string names;
  for (const ChatRules& rules : kFormats) names += (names.empty() ? "" : ", ") + std::string(rules.name);
  return names;
}

// Writes a conversation: markers as ids, everything between two markers encoded as one text.
class Writer {
 public:
  Writer(const Tokenizer& tokenizer, const ChatRules& rules) : tokenizer_(tokenizer), rules_(rules) {}

  // The format's own text.
  Status own(std::string_view text) {
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
                                    ", which this tokenizer does not have; formats are " + all_names());
      }
      CONSORT_RETURN_IF_ERROR(flush());
      chat_.ids.push_back(*id);
      text.remove_prefix(marker->size());
    }
    return runtime::done();
  }

  void content(std::string_view text) {
    chat_.text += text;
    run_ += text;
  }

  Outcome<RenderedChat> finish() {
    CONSORT_RETURN_IF_ERROR(flush());
    return std::move(chat_);
  }

 private:
  Status flush() {
    if (run_.empty()) return runtime::done();
    CONSORT_TRY(const auto ids, tokenizer_.encode(run_, {.add_special_tokens = false, .match_added_tokens = false}));
    chat_.ids.insert(chat_.ids.end(), ids.begin(), ids.end());
    run_.clear();
    return runtime::done();
  }

  const Tokenizer& tokenizer_;
  const ChatRules& rules_;
  RenderedChat chat_;
  std::string run_;
};

std::string_view without_thought(std::string_view content, Thought thought) {
  constexpr std::string_view kThoughtEnd = "</think>";
  if (thought == Thought::kKept) return content;
  const std::size_t at = thought == Thought::kAfterLast ? content.rfind(kThoughtEnd) : content.find(kThoughtEnd);
  return at == std::string_view::npos ? content : content.substr(at + kThoughtEnd.size());
}

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

Outcome<ChatRole> chat_role_from_name(std::string_view name) {
  if (name == "system") return ChatRole::kSystem;
  if (name == "user") return ChatRole::kUser;
  if (name == "assistant") return ChatRole::kAssistant;
  return runtime::failure(ErrorKind::kInvalid,
                          "the role \"" + std::string(name) + "\" is not one of system, user, assistant");
}

std::vector<std::string_view> ChatFormat::names() {
  std::vector<std::string_view> names;
  for (const ChatRules& rules : kFormats) names.push_back(rules.name);
  return names;
}

Outcome<ChatFormat> ChatFormat::named(std::string_view name) {
  for (const ChatRules& rules : kFormats) {
    if (rules.name == name) return ChatFormat(rules);
  }
  return runtime::failure(ErrorKind::kInvalid,
                          "there is no chat format \"" + std::string(name) + "\"; formats are " + all_names());
}

Outcome<ChatFormat> ChatFormat::recognise(std::string_view chat_template) {
  if (chat_template.empty()) {
    return runtime::failure(ErrorKind::kInvalid,
                            "the model has no chat_template; name its format with --chat-format: " + all_names());
  }
  const std::string_view name = recognised_template(chat_template);
  if (name.empty()) {
    return runtime::failure(ErrorKind::kInvalid,
                            "the model's chat_template is not one that this program knows; name the format that it "
                            "equals with --chat-format: " +
                                all_names());
  }
  return named(name);
}

Outcome<ChatFormat> ChatFormat::choose(std::string_view name, const Tokenizer& tokenizer) {
  return name.empty() ? recognise(tokenizer.chat_template()) : named(name);
}

std::string_view ChatFormat::name() const { return rules_->name; }
std::string_view ChatFormat::answer_start() const { return rules_->answer_start; }

Outcome<RenderedChat> ChatFormat::render(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                                         bool add_generation_prompt) const {
  if (messages.empty()) return runtime::failure(ErrorKind::kInvalid, "a chat needs at least one message");
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (const auto bad = first_invalid_utf8(messages[i].content); bad != std::string_view::npos) {
      return runtime::failure(ErrorKind::kInvalid, "messages[" + std::to_string(i) + "].content is not UTF-8 at byte " +
                                                       std::to_string(bad));
    }
  }
  const ChatRules& rules = *rules_;
  Writer writer(tokenizer, rules);
  CONSORT_RETURN_IF_ERROR(writer.own(kBegin));
  if (rules.system == SystemPlace::kCollected) writer.content(collected_system(messages));
  bool after_user = false;
  for (const ChatMessage& message : messages) {
    switch (message.role) {
      case ChatRole::kSystem:
        if (rules.system == SystemPlace::kCollected) break;
        writer.content(message.content);
        CONSORT_RETURN_IF_ERROR(writer.own(rules.after_system));
        break;
      case ChatRole::kUser:
        CONSORT_RETURN_IF_ERROR(writer.own(rules.before_user));
        writer.content(message.content);
        CONSORT_RETURN_IF_ERROR(writer.own(rules.after_user));
        after_user = true;
        break;
      case ChatRole::kAssistant:
        if (applies(rules.before_assistant_when, after_user))
          CONSORT_RETURN_IF_ERROR(writer.own(rules.before_assistant));
        writer.content(without_thought(message.content, rules.thought));
        CONSORT_RETURN_IF_ERROR(writer.own(rules.after_assistant));
        after_user = false;
        break;
    }
  }
  if (add_generation_prompt && applies(rules.generation_prompt_when, after_user)) {
    CONSORT_RETURN_IF_ERROR(writer.own(rules.generation_prompt));
  }
  return writer.finish();
}

}  // namespace consort::model
