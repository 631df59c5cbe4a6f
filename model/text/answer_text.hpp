// AnswerText: a model's tokens as the text of an answer: thoughts apart from what is said, ended where a stop text
// comes. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/text/tokenizer.hpp"

namespace consort::model {

class AnswerText {
 public:
  struct Options {
    // <think> and </think> are told by their ids, so that no text can play them. Off, or where the tokenizer lacks
    // them: everything is content.
    bool splits_thoughts = true;
    bool begins_in_thought = false;  // the prompt has opened the thought already
    std::vector<std::string> stops;  // not empty texts; they are looked for in the content alone, and not part of it
    // Ids that are told as they are and make no text, in the content; behind the first no stop text is looked for.
    std::vector<std::int32_t> markers = {};
  };
  // The text that is certain now. Line feeds around a thought belong to neither side.
  struct Piece {
    std::string reasoning;
    std::string content;
    bool of_thought = false;                  // where the token itself belongs; its tags are the thought's
    std::optional<std::int32_t> marker = {};  // comes behind the content
  };

  AnswerText(const Tokenizer& tokenizer, Options options);

  // After a stop text nothing more comes.
  Piece add(std::int32_t id);
  // What was held back: the end came first.
  Piece finish();
  bool stopped() const { return stopped_; }
  std::uint32_t thought_tokens() const { return thought_tokens_; }

 private:
  enum class Place : std::uint8_t { kStart, kThought, kContent };
  void take(std::string_view text, Piece& piece);
  void take_thought(std::string_view text, std::string& out);
  void take_content(std::string_view text, std::string& out);
  std::size_t begun_stop() const;

  Options options_;
  std::optional<std::int32_t> thought_begin_, thought_end_;
  StreamDecoder decoder_;
  Place place_ = Place::kStart;
  bool trims_line_feeds_ = false;  // at the beginning of a side, next to a tag
  std::string held_;               // kThought: line feeds; kContent: the beginning of a stop text
  bool stopped_ = false;
  bool has_marker_ = false;
  std::uint32_t thought_tokens_ = 0;
};

}  // namespace consort::model
