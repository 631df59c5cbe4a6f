#include "model/text/answer_text.hpp"

#include <algorithm>
#include <utility>

namespace consort::model {

AnswerText::AnswerText(const Tokenizer& tokenizer, Options options)
    : options_(std::move(options)), decoder_(tokenizer) {
  if (options_.splits_thoughts) {
    thought_begin_ = tokenizer.added_token_id("<think>");
    thought_end_ = tokenizer.added_token_id("</think>");
  }
  if (!thought_begin_ || !thought_end_) {
    place_ = Place::kContent;
  } else if (options_.begins_in_thought) {
    place_ = Place::kThought;
    trims_line_feeds_ = true;
  }
}

AnswerText::Piece AnswerText::add(std::int32_t id) {
  Piece piece;
  if (stopped_) return piece;
  const bool opens = place_ == Place::kStart && id == thought_begin_;
  const bool closes = place_ == Place::kThought && id == thought_end_;
  piece.of_thought = opens || place_ == Place::kThought;
  if (piece.of_thought) ++thought_tokens_;
  if (place_ != Place::kThought && std::ranges::find(options_.markers, id) != options_.markers.end()) {
    take(decoder_.finish(), piece);
    piece.content += std::exchange(held_, {});
    place_ = Place::kContent;
    trims_line_feeds_ = false;
    has_marker_ = true;
    piece.marker = id;
    return piece;
  }
  if (!opens && !closes) {
    take(decoder_.add(id), piece);
    return piece;
  }
  take(decoder_.finish(), piece);
  held_.clear();
  place_ = opens ? Place::kThought : Place::kContent;
  trims_line_feeds_ = true;
  return piece;
}

AnswerText::Piece AnswerText::finish() {
  Piece piece;
  if (stopped_) return piece;
  take(decoder_.finish(), piece);
  if (place_ != Place::kThought) piece.content += held_;
  held_.clear();
  return piece;
}

void AnswerText::take(std::string_view text, Piece& piece) {
  if (place_ == Place::kThought) return take_thought(text, piece.reasoning);
  if (place_ == Place::kStart) {
    // Line feeds may come before the tag; anything else means that there is no thought.
    if (text.find_first_not_of('\n') == std::string_view::npos) {
      held_ += text;
      return;
    }
    place_ = Place::kContent;
    const std::string before = std::exchange(held_, {});
    take_content(before, piece.content);
  }
  take_content(text, piece.content);
}

void AnswerText::take_thought(std::string_view text, std::string& out) {
  if (trims_line_feeds_) {
    text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
    if (text.empty()) return;
    trims_line_feeds_ = false;
  }
  held_ += text;
  const std::size_t last = held_.find_last_not_of('\n');
  if (last == std::string::npos) return;
  out += held_.substr(0, last + 1);
  held_.erase(0, last + 1);
}

void AnswerText::take_content(std::string_view text, std::string& out) {
  if (trims_line_feeds_) {
    text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
    if (text.empty()) return;
    trims_line_feeds_ = false;
  }
  if (has_marker_) {
    out += text;
    return;
  }
  held_ += text;
  std::size_t first = std::string::npos;
  for (const std::string& stop : options_.stops) first = std::min(first, held_.find(stop));
  if (first != std::string::npos) {
    out += held_.substr(0, first);
    held_.clear();
    stopped_ = true;
    return;
  }
  const std::size_t certain = held_.size() - begun_stop();
  out += held_.substr(0, certain);
  held_.erase(0, certain);
}

// How many bytes at the end of held_ may be the beginning of a stop text.
std::size_t AnswerText::begun_stop() const {
  std::size_t longest = 0;
  for (const std::string& stop : options_.stops) {
    for (std::size_t bytes = std::min(stop.size() - 1, held_.size()); bytes > longest; --bytes) {
      if (held_.ends_with(std::string_view(stop).substr(0, bytes))) longest = bytes;
    }
  }
  return longest;
}

}  // namespace consort::model
