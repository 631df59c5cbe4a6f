// AddedTokens: finds literal tokens in raw text; leftmost first, and the longest of those that start at one place.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace consort::model {

// A stretch of text: a token of its own (id >= 0), or text still to be encoded (id < 0).
struct TextSegment {
  std::string_view text;
  std::int32_t id = -1;
};

class AddedTokens {
 public:
  struct Entry {
    std::string text;
    std::int32_t id = 0;
  };

  AddedTokens() = default;
  explicit AddedTokens(std::vector<Entry> entries);  // texts are distinct and not empty

  // Appends the segments of text, in order. Text between tokens is never empty.
  void split(std::string_view text, std::vector<TextSegment>& segments) const;

 private:
  const Entry* longest_at_start(std::string_view text) const;

  std::vector<Entry> entries_;  // sorted by text
  std::array<bool, 256> starts_{};
};

}  // namespace consort::model
