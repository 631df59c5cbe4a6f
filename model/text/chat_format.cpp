#include "model/text/chat_format.hpp"

#include "model/text/chat_rules.hpp"
#include "model/text/chat_template.hpp"
#include "model/text/chat_writer.hpp"

namespace consort::model {

using runtime::ErrorKind;
using runtime::Outcome;

Outcome<ChatRole> chat_role_from_name(std::string_view name) {
  if (name == "system") return ChatRole::kSystem;
  if (name == "user") return ChatRole::kUser;
  if (name == "assistant") return ChatRole::kAssistant;
  if (name == "tool") return ChatRole::kTool;
  return runtime::failure(ErrorKind::kInvalid,
                          "the role \"" + std::string(name) + "\" is not one of system, user, assistant, tool");
}

std::vector<std::string_view> ChatFormat::names() {
  std::vector<std::string_view> names;
  for (const ChatRules& rules : chat_rules()) names.push_back(rules.name);
  return names;
}

Outcome<ChatFormat> ChatFormat::named(std::string_view name) {
  if (const ChatRules* rules = find_chat_rules(name)) return ChatFormat(*rules);
  return runtime::failure(ErrorKind::kInvalid,
                          "there is no chat format \"" + std::string(name) + "\"; formats are " + chat_format_names());
}

Outcome<ChatFormat> ChatFormat::recognise(std::string_view chat_template) {
  if (chat_template.empty()) {
    return runtime::failure(
        ErrorKind::kInvalid,
        "the model has no chat_template; name its format with --chat-format: " + chat_format_names());
  }
  const std::string_view name = recognised_template(chat_template);
  if (name.empty()) {
    return runtime::failure(ErrorKind::kInvalid,
                            "the model's chat_template is not one that this program knows; name the format that it "
                            "equals with --chat-format: " +
                                chat_format_names());
  }
  return named(name);
}

Outcome<ChatFormat> ChatFormat::choose(std::string_view name, const Tokenizer& tokenizer) {
  return name.empty() ? recognise(tokenizer.chat_template()) : named(name);
}

std::string_view ChatFormat::name() const { return rules_->name; }
std::string_view ChatFormat::answer_start() const { return rules_->answer_start; }

bool ChatFormat::has_tools() const { return rules_->tools != ToolStyle::kNone; }
bool ChatFormat::fences_calls() const {
  return rules_->tools == ToolStyle::kV3 || rules_->tools == ToolStyle::kV3Turns;
}

Outcome<ChatFormat> ChatFormat::with_thinking(std::optional<bool> thinking) const {
  if (!thinking) return *this;
  if (name().starts_with("v3.1")) return named(*thinking ? "v3.1-thinking" : "v3.1");
  const bool thinks = !answer_start().empty() || name() == "r1-0528";
  if (thinks == *thinking) return *this;
  return runtime::failure(ErrorKind::kInvalid, "this model's chat format, " + std::string(name()) + ", " +
                                                   (thinks ? "always thinks" : "has no thoughts") +
                                                   ": that cannot be changed");
}

Outcome<RenderedChat> ChatFormat::render(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                                         bool add_generation_prompt, std::span<const ToolDescription> tools) const {
  if (messages.empty()) return runtime::failure(ErrorKind::kInvalid, "a chat needs at least one message");
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (const auto bad = first_invalid_utf8(messages[i].content); bad != std::string_view::npos) {
      return runtime::failure(ErrorKind::kInvalid, "messages[" + std::to_string(i) + "].content is not UTF-8 at byte " +
                                                       std::to_string(bad));
    }
  }
  if (!tools.empty() && !has_tools()) {
    return runtime::failure(ErrorKind::kInvalid,
                            "this model's chat format, " + std::string(name()) + ", has no way to call tools");
  }
  ChatWriter writer(tokenizer, *rules_);
  CONSORT_RETURN_IF_ERROR(writer.begin(messages, tools));
  for (const ChatMessage& message : messages) CONSORT_RETURN_IF_ERROR(writer.turn(message));
  return writer.finish(add_generation_prompt);
}

}  // namespace consort::model
