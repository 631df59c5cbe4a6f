// The byte alphabet of byte-level BPE: every byte has a printable character, so that a vocabulary of text can hold
// bytes. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace consort::model {

// Printable Latin-1 bytes (33-126, 161-172, 174-255) are their own code point; the other 68 follow from U+0100 on.
// "Ġ" is a space, "Ċ" a line feed.
char32_t symbol_of_byte(unsigned char byte);

// Each byte as the UTF-8 of its symbol.
std::string symbols_of_bytes(std::string_view bytes);

// The reverse; nothing where a character is no symbol of the alphabet.
std::optional<std::string> bytes_of_symbols(std::string_view symbols);

}  // namespace consort::model
