#include "model/text/chat_template.hpp"

#include <array>
#include <span>

namespace consort::model {
namespace {

constexpr std::string_view kCollectsSystem = "{%setns.system_prompt=ns.system_prompt+'\n\n'+message['content']%}";
constexpr std::string_view kSystemAfterBos = "{{bos_token}}{{ns.system_prompt}}";
constexpr std::string_view kUser = "{{'<｜User｜>'+message['content']}}";
constexpr std::string_view kUserThenAssistant = "{{'<｜User｜>'+message['content']+'<｜Assistant｜>'}}";
constexpr std::string_view kAssistant = "{{'<｜Assistant｜>'+content+'<｜end▁of▁sentence｜>'}}";
constexpr std::string_view kContentOnly = "{{content+'<｜end▁of▁sentence｜>'}}";
constexpr std::string_view kAfterLastThought = "content.split('</think>')[-1]";
constexpr std::string_view kAfterFirstThought = "content.split('</think>',1)[1]";
constexpr std::string_view kAnyThought = "split('</think>'";

// How calls of tools and their outputs are written, and when a list of them is opened.
constexpr std::string_view kOutput = "{{'<｜tool▁output▁begin｜>'+message['content']+'<｜tool▁output▁end｜>'}}";
constexpr std::string_view kOutputOnNewLine =
    "{{'\n<｜tool▁output▁begin｜>'+message['content']+'<｜tool▁output▁end｜>'}}";
constexpr std::string_view kFencedCall =
    "+tool['type']+'<｜tool▁sep｜>'+tool['function']['name']+'\n'+'```json'+'\n'+tool['function']['arguments']+'\n'+"
    "'```'+'<｜tool▁call▁end｜>'}}";
constexpr std::string_view kNextFencedCall = "{{'\n'+'<｜tool▁call▁begin｜>'+tool['type']+'<｜tool▁sep｜>'";
constexpr std::string_view kBareCall =
    "{{'<｜tool▁call▁begin｜>'+tool['function']['name']+'<｜tool▁sep｜>'+tool['function']['arguments']+"
    "'<｜tool▁call▁end｜>'}}";
constexpr std::string_view kCallsEnd = "{{'<｜tool▁calls▁end｜><｜end▁of▁sentence｜>'}}";
constexpr std::string_view kOutputsEndLast = "{%endfor%}{%ifns.is_tool%}{{'<｜tool▁outputs▁end｜>'}}{%endif%}";
constexpr std::string_view kCallsBegunOnce =
    "'tool_calls'inmessage%}{%setns.is_tool=false%}{%fortoolinmessage['tool_calls']%}";
constexpr std::string_view kCallsBegunAnew =
    "{%setns.is_last_user=false%}{%ifns.is_tool%}{{'<｜tool▁outputs▁end｜>'}}{%endif%}{%setns.is_first=false%}"
    "{%setns.is_tool=false%}{%setns.is_output_first=true%}";

struct Features {
  std::string_view name;
  std::array<std::string_view, 12> all;  // empty entries say nothing
  std::string_view none = {};
};

constexpr std::array kKnown = {
    Features{"v3",
             {kCollectsSystem, kSystemAfterBos, kUser, kAssistant, kAfterLastThought, kOutput, kFencedCall,
              kNextFencedCall, kCallsEnd, kOutputsEndLast, kCallsBegunOnce,
              "{%ifadd_generation_promptandnotns.is_tool%}{{'<｜Assistant｜>'}}{%endif%}"}},
    Features{"r1",
             {kCollectsSystem, kSystemAfterBos, kUser, kAssistant, kAfterLastThought, kOutput, kFencedCall,
              kNextFencedCall, kCallsEnd, kOutputsEndLast, kCallsBegunOnce,
              "{%ifadd_generation_promptandnotns.is_tool%}{{'<｜Assistant｜><think>\n'}}{%endif%}"}},
    // Its contents are stripped of thoughts before anything is written.
    Features{"r1-0528",
             {kCollectsSystem, kSystemAfterBos, "{{'<｜User｜>'+content+'<｜Assistant｜>'}}", kContentOnly,
              "{%formessageinmessages%}{%setcontent=message['content']%}{%ifmessage['role']=='user'%}",
              "{%ifmessage['role']=='assistant'%}{%if'</think>'incontent%}{%setcontent=content.split('</think>')[-1]%}"
              "{%endif%}{%endif%}",
              "{{'\n<｜tool▁output▁begin｜>'+content+'<｜tool▁output▁end｜>'}}", kFencedCall, kNextFencedCall,
              kOutputsEndLast, kCallsBegunAnew,
              "{%ifadd_generation_promptandnotns.is_last_userandnotns.is_tool%}{{'<｜Assistant｜>'}}{%endif%}"}},
    Features{"v3-0324",
             {kCollectsSystem, kSystemAfterBos, kUserThenAssistant, kContentOnly, kOutputOnNewLine, kFencedCall,
              kNextFencedCall, kCallsEnd, kOutputsEndLast, kCallsBegunAnew,
              "{%ifadd_generation_promptandnotns.is_last_userandnotns.is_tool%}{{'<｜Assistant｜>'}}{%endif%}"},
             kAnyThought},
    Features{"v3.1",
             {kCollectsSystem, kSystemAfterBos, kUser, kContentOnly, kAfterFirstThought, kOutput, kBareCall, kCallsEnd,
              "{%ifadd_generation_promptandns.is_last_userandnotns.is_tool%}{{'<｜Assistant｜>'}}"
              "{%ifnotthinking%}{{'</think>'}}{%else%}{{'<think>'}}{%endif%}{%endif%}"}},
    Features{
        "v2",
        {"{{bos_token}}", "{{'User: '+message['content']+'\n\n'}}", "{{'Assistant: '+message['content']+eos_token}}",
         "{{message['content']+'\n\n'}}", "{%ifadd_generation_prompt%}{{'Assistant:'}}{%endif%}"}},
    Features{"adder",
             {"{{bos_token}}", "{%ifm['role']=='system'%}{{m['content']}}", "{{'<｜User｜>'+m['content']}}",
              "{{'<｜Assistant｜>'+m['content'].split('</think>')[-1]+'<｜end▁of▁sentence｜>'}}",
              "{%ifadd_generation_prompt%}{{'<｜Assistant｜><think>\n'}}{%endif%}"}},
};

bool has(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

bool fits(const Features& features, std::string_view text) {
  for (std::string_view part : features.all) {
    if (!part.empty() && !has(text, part)) return false;
  }
  return features.none.empty() || !has(text, features.none);
}

}  // namespace

std::string normalised_template(std::string_view source) {
  std::string out;
  char tag_end = '\0';  // '}' inside {{ }}, '%' inside {% %}
  char quote = '\0';
  for (std::size_t i = 0; i < source.size(); ++i) {
    const char c = source[i];
    const char next = i + 1 < source.size() ? source[i + 1] : '\0';
    if (quote != '\0') {
      if (c == quote) {
        quote = '\0';
        out += '\'';
      } else if (c == '\\' && next != '\0') {
        out += next == 'n' ? '\n' : next;
        ++i;
      } else {
        out += c;
      }
    } else if (tag_end == '\0' && c == '{' && next == '#') {
      const std::size_t end = source.find("#}", i + 2);
      i = end == std::string_view::npos ? source.size() : end + 1;
    } else if (tag_end == '\0' && c == '{' && (next == '{' || next == '%')) {
      tag_end = next == '{' ? '}' : '%';
      out += {c, next};
      i += i + 2 < source.size() && source[i + 2] == '-' ? 2 : 1;
    } else if (tag_end != '\0' && (c == '\'' || c == '"')) {
      quote = c;
      out += '\'';
    } else if (tag_end != '\0' && c == tag_end && next == '}') {
      out += {c, next};
      tag_end = '\0';
      ++i;
    } else if (tag_end != '\0' && c == '-' && next == tag_end && source.substr(i + 2).starts_with('}')) {
      continue;
    } else if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
      out += c;
    }
  }
  return out;
}

std::string_view recognised_template(std::string_view source) {
  const std::string text = normalised_template(source);
  for (const Features& features : kKnown) {
    if (fits(features, text)) return features.name;
  }
  return {};
}

}  // namespace consort::model
