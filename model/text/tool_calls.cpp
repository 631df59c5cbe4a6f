#include "model/text/tool_calls.hpp"

#include <algorithm>
#include <utility>

#include "model/json_text.hpp"
#include "model/text/chat_rules.hpp"

namespace consort::model {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;

namespace {

constexpr std::string_view kType = "function";
constexpr std::string_view kFenceBegin = "\n```json\n";
constexpr std::string_view kFenceEnd = "\n```";
constexpr std::string_view kBlanks = " \t\r\n";

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

bool is_object(std::string_view text) {
  return text.starts_with('{') && check_json(text, "arguments", kMaxSchemaDepth).ok();
}

// What a call says, where it is whole; models put blanks where the format has none.
struct Parts {
  std::string name, arguments;
};
Parts parts_of(bool fenced, std::string_view head, std::string_view body) {
  if (!fenced) return {std::string(trimmed(head)), std::string(trimmed(body))};
  if (trimmed(head) != kType) return {};
  const std::size_t line = body.find('\n');
  if (line == std::string_view::npos) return {};
  std::string_view rest = trimmed(body.substr(line));
  if (!rest.starts_with("```json") || !rest.ends_with("```") || rest.size() < 10) return {};
  return {std::string(trimmed(body.substr(0, line))), std::string(trimmed(rest.substr(7, rest.size() - 10)))};
}

}  // namespace

ToolMarkers ToolMarkers::of(const Tokenizer& tokenizer) {
  const auto id = [&](std::string_view text) { return tokenizer.added_token_id(text).value_or(-1); };
  return {id(marker::kCallsBegin), id(marker::kCallsEnd), id(marker::kCallBegin), id(marker::kCallEnd),
          id(marker::kSeparator)};
}

bool ToolMarkers::complete() const { return std::min({calls_begin, calls_end, call_begin, call_end, separator}) >= 0; }

std::vector<std::int32_t> ToolMarkers::ids() const {
  std::vector<std::int32_t> ids{calls_begin, calls_end, call_begin, call_end, separator};
  std::erase(ids, -1);
  return ids;
}

Outcome<ToolCallLayout> tool_call_layout(std::string_view format, const Tokenizer& tokenizer) {
  const ChatRules* rules = find_chat_rules(format);
  if (rules == nullptr || rules->tools == ToolStyle::kNone) {
    return failure(ErrorKind::kInvalid,
                   "this model's chat format, " + std::string(format) + ", has no way to call tools");
  }
  const ToolMarkers markers = ToolMarkers::of(tokenizer);
  if (!markers.complete())
    return failure(ErrorKind::kInvalid, "this model's tokenizer lacks the markers of tool calls");
  ToolCallLayout layout;
  layout.begin = {{markers.calls_begin, ""}};
  layout.before_name = {{markers.call_begin, ""}};
  layout.end = {{markers.calls_end, ""}};
  if (rules->tools == ToolStyle::kV31) {
    layout.before_arguments = {{markers.separator, ""}};
    layout.after_arguments = {{markers.call_end, ""}};
  } else {
    layout.before_name.push_back({-1, std::string(kType)});
    layout.before_name.push_back({markers.separator, ""});
    layout.before_arguments = {{-1, std::string(kFenceBegin)}};
    layout.after_arguments = {{-1, std::string(kFenceEnd)}, {markers.call_end, ""}};
    layout.between = {{-1, "\n"}};
  }
  return layout;
}

ToolCallReader::ToolCallReader(const Tokenizer& tokenizer, Options options)
    : tokenizer_(tokenizer), markers_(ToolMarkers::of(tokenizer)), options_(std::move(options)) {}

ToolCallReader::Piece ToolCallReader::text(std::string_view text) {
  Piece piece;
  take(text, piece);
  return piece;
}

void ToolCallReader::take(std::string_view text, Piece& piece) {
  if (place_ == Place::kContent) {
    piece.content += text;
    return;
  }
  raw_ += text;
  switch (place_) {
    case Place::kContent:
      return;
    case Place::kBetween:
      if (!trimmed(text).empty()) give_up(piece);
      return;
    case Place::kHead:
      head_ += text;
      break;
    case Place::kBody:
      body_ += text;
      if (options_.is_certain) stream_arguments(piece, false);
      break;
  }
  if (raw_.size() > kMaxCallBytes && !options_.is_certain) give_up(piece);
}

ToolCallReader::Piece ToolCallReader::marker(std::int32_t id) {
  Piece piece;
  const std::string text(tokenizer_.token_text(id).value_or(""));
  const bool opens = place_ == Place::kContent && id == markers_.calls_begin;
  if (!opens && place_ == Place::kContent) {
    piece.content += text;
    return piece;
  }
  raw_ += text;
  if (opens) {
    place_ = Place::kBetween;
  } else if (place_ == Place::kBetween && id == markers_.call_begin) {
    place_ = Place::kHead;
    head_.clear();
    body_.clear();
    name_.clear();
    has_sent_name_ = false;
    sent_bytes_ = 0;
  } else if (place_ == Place::kBetween && id == markers_.calls_end) {
    place_ = Place::kContent;
    raw_.clear();
  } else if (place_ == Place::kHead && id == markers_.separator) {
    place_ = Place::kBody;
    if (options_.is_certain) stream_arguments(piece, false);
  } else if (place_ == Place::kBody && id == markers_.call_end) {
    end_call(piece);
  } else {
    give_up(piece);
  }
  return piece;
}

ToolCallReader::Piece ToolCallReader::finish() {
  Piece piece;
  // A list that is not closed, after whole calls, loses nothing.
  const bool only_unclosed = place_ == Place::kBetween && raw_.empty();
  if (place_ == Place::kBody && !name_.empty()) {
    stream_arguments(piece, true);
  } else if (place_ != Place::kContent && !only_unclosed) {
    give_up(piece);
  }
  return piece;
}

// What was held back is what the model said.
void ToolCallReader::give_up(Piece& piece) {
  piece.content += std::exchange(raw_, {});
  place_ = Place::kContent;
}

void ToolCallReader::end_call(Piece& piece) {
  place_ = Place::kBetween;
  if (options_.is_certain) {
    stream_arguments(piece, true);
    ++calls_;
    raw_.clear();
    return;
  }
  Parts parts = parts_of(options_.fenced, head_, body_);
  if (!options_.names.contains(parts.name) || !is_object(parts.arguments)) return give_up(piece);
  piece.calls.push_back({calls_, std::move(parts.name), ""});
  piece.calls.push_back({calls_, "", std::move(parts.arguments)});
  ++calls_;
  raw_.clear();
}

// Under a grammar each byte is where it must be.
void ToolCallReader::stream_arguments(Piece& piece, bool is_end) {
  std::string_view arguments = body_;
  if (options_.fenced) {
    const std::size_t fence = body_.find(kFenceBegin);
    if (fence == std::string::npos) return;
    if (name_.empty()) name_ = body_.substr(0, fence);
    arguments.remove_prefix(fence + kFenceBegin.size());
    if (is_end && arguments.ends_with(kFenceEnd)) {
      arguments.remove_suffix(kFenceEnd.size());
    } else if (!is_end) {
      // The end of the fence may have begun.
      for (std::size_t held = std::min(kFenceEnd.size(), arguments.size()); held > 0; --held) {
        if (!arguments.ends_with(kFenceEnd.substr(0, held))) continue;
        arguments.remove_suffix(held);
        break;
      }
    }
  } else if (name_.empty()) {
    name_ = head_;
  }
  if (!std::exchange(has_sent_name_, true)) piece.calls.push_back({calls_, name_, ""});
  if (arguments.size() > sent_bytes_) {
    piece.calls.push_back({calls_, "", std::string(arguments.substr(sent_bytes_))});
    sent_bytes_ = arguments.size();
  }
}

}  // namespace consort::model
