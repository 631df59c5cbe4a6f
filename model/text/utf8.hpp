// UTF-8: where it is ill-formed, and how bytes that arrive in pieces become text.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace consort::model {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// Offset of the first byte that is not part of a well-formed character; npos where there is none.
std::size_t first_invalid_utf8(std::string_view text);

// Appends the UTF-8 form of a code point below 0x110000.
void append_utf8(std::string& out, char32_t code_point);

// Turns bytes into UTF-8. Each maximal ill-formed part becomes one U+FFFD (Unicode 15, section 3.9, "substitution of
// maximal subparts"; Rust and WHATWG do the same). However the bytes are cut, the text that comes out is the same.
class Utf8Repair {
 public:
  // Appends the text that is certain by now; up to three bytes of an unfinished character are held back.
  void add(std::string_view bytes, std::string& out);
  // Ends the text: an unfinished character becomes U+FFFD. The object may then be used again.
  void finish(std::string& out);

 private:
  std::string held_;
};

}  // namespace consort::model
