// Calls of tools in what a model writes: how they are laid out, and how they are read as the tokens come.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "model/grammar/schema_compiler.hpp"
#include "model/text/tokenizer.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

// How a format's calls are laid out, for a grammar that writes them. Fails where the format, or the tokenizer, has
// none.
runtime::Outcome<ToolCallLayout> tool_call_layout(std::string_view format, const Tokenizer& tokenizer);

// Ids of the markers around calls; -1 where the tokenizer lacks one.
struct ToolMarkers {
  std::int32_t calls_begin = -1, calls_end = -1, call_begin = -1, call_end = -1, separator = -1;
  static ToolMarkers of(const Tokenizer& tokenizer);
  bool complete() const;
  std::vector<std::int32_t> ids() const;  // those that there are
};

// Reads the content of an answer: text, and markers told by their ids, so that no text can play a call. A call that is
// not whole, names no tool that was offered, or has arguments that are no JSON object comes back as content, as the
// model wrote it.
class ToolCallReader {
 public:
  struct Options {
    bool fenced = false;  // "function", name and fenced arguments, as V3 and R1 write them
    std::set<std::string, std::less<>> names;
    // The calls are written under a grammar: arguments go out as they come, and are not looked at.
    bool is_certain = false;
  };
  struct Delta {
    std::uint32_t index = 0;  // of the call in the answer
    std::string name;         // in its first one only
    std::string arguments;    // one more piece
  };
  struct Piece {
    std::string content;
    std::vector<Delta> calls;
  };

  ToolCallReader(const Tokenizer& tokenizer, Options options);

  static constexpr std::size_t kMaxCallBytes = std::size_t{1} << 20;  // of one that is held back; more is content

  Piece text(std::string_view text);
  Piece marker(std::int32_t id);
  Piece finish();                                 // the end came; what is held back is no call
  std::uint32_t calls() const { return calls_; }  // those that went out
  bool between_calls() const { return place_ == Place::kBetween || place_ == Place::kContent; }

 private:
  enum class Place : std::uint8_t { kContent, kBetween, kHead, kBody };
  void take(std::string_view text, Piece& piece);
  void give_up(Piece& piece);
  void end_call(Piece& piece);
  void stream_arguments(Piece& piece, bool is_end);

  const Tokenizer tokenizer_;
  const ToolMarkers markers_;
  const Options options_;
  Place place_ = Place::kContent;
  std::string raw_;   // of what is held back, as the model wrote it
  std::string head_;  // before the separator
  std::string body_;  // behind it
  std::string name_;
  bool has_sent_name_ = false;
  std::size_t sent_bytes_ = 0;  // of the arguments, where they stream
  std::uint32_t calls_ = 0;
};

}  // namespace consort::model
