#include "runtime/error_reply.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace consort::runtime {
namespace {

// How many bytes of text are well-formed UTF-8 (no overlong forms, no surrogates).
std::size_t valid_utf8_bytes(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    std::size_t length;
    std::uint32_t code;
    std::uint32_t least;
    if (lead < 0x80) {
      ++i;
      continue;
    } else if ((lead & 0xE0) == 0xC0) {
      length = 2, code = lead & 0x1Fu, least = 0x80;
    } else if ((lead & 0xF0) == 0xE0) {
      length = 3, code = lead & 0x0Fu, least = 0x800;
    } else if ((lead & 0xF8) == 0xF0) {
      length = 4, code = lead & 0x07u, least = 0x10000;
    } else {
      return i;
    }
    if (i + length > text.size()) return i;
    for (std::size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xC0) != 0x80) return i;
      code = (code << 6) | (next & 0x3Fu);
    }
    if (code < least || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return i;
    i += length;
  }
  return i;
}

}  // namespace

std::vector<std::byte> encode_error(const Error& error) {
  std::string_view text = error.text;
  text = text.substr(0, kMaxErrorTextBytes);
  text = text.substr(0, valid_utf8_bytes(text));  // never half a character
  std::vector<std::byte> bytes;
  bytes.reserve(1 + text.size());
  bytes.push_back(static_cast<std::byte>(error.kind));
  for (const char c : text) bytes.push_back(static_cast<std::byte>(c));
  return bytes;
}

Error decode_error(std::span<const std::byte> metadata) {
  if (metadata.empty()) return {ErrorKind::kMalformed, "an error reply without content arrived"};
  const auto kind = static_cast<unsigned>(metadata[0]);
  if (kind < 1 || kind > static_cast<unsigned>(kErrorKindCount)) {
    return {ErrorKind::kMalformed, "an error reply of unknown kind " + std::to_string(kind) + " arrived"};
  }
  const auto text = metadata.subspan(1);
  if (text.size() > kMaxErrorTextBytes) {
    return {ErrorKind::kMalformed, "an error reply of " + std::to_string(text.size()) + " bytes arrived"};
  }
  std::string words(reinterpret_cast<const char*>(text.data()), text.size());
  if (valid_utf8_bytes(words) != words.size()) {
    return {ErrorKind::kMalformed, "an error reply that is not UTF-8 arrived"};
  }
  return {static_cast<ErrorKind>(kind), std::move(words)};
}

}  // namespace consort::runtime
