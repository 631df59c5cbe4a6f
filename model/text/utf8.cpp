#include "model/text/utf8.hpp"

namespace consort::model {
namespace {

enum class Shape { kWhole, kUnfinished, kInvalid };

struct Scan {
  Shape shape;
  std::size_t bytes;  // of the character, of the unfinished rest, or of the ill-formed part
};

// The first character of non-empty text. The second byte's range is what keeps overlong forms, surrogates and code
// points above U+10FFFF out (Unicode 15, table 3-7).
Scan scan_character(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {Shape::kWhole, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Shape::kInvalid, 1};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Shape::kUnfinished, i};
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < low || byte > high) return {Shape::kInvalid, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Shape::kWhole, length};
}

}  // namespace

std::size_t first_invalid_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const Scan scan = scan_character(text.substr(at));
    if (scan.shape != Shape::kWhole) return at;
    at += scan.bytes;
  }
  return std::string_view::npos;
}

void append_utf8(std::string& out, char32_t code_point) {
  const auto tail = [&](unsigned shift) { out += static_cast<char>(0x80 | ((code_point >> shift) & 0x3F)); };
  if (code_point < 0x80) {
    out += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    out += static_cast<char>(0xC0 | (code_point >> 6));
    tail(0);
  } else if (code_point < 0x10000) {
    out += static_cast<char>(0xE0 | (code_point >> 12));
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0 | (code_point >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

void Utf8Repair::add(std::string_view bytes, std::string& out) {
  held_ += bytes;
  std::string_view rest = held_;
  while (!rest.empty()) {
    const Scan scan = scan_character(rest);
    if (scan.shape == Shape::kUnfinished) break;
    out += scan.shape == Shape::kWhole ? rest.substr(0, scan.bytes) : kReplacementCharacter;
    rest.remove_prefix(scan.bytes);
  }
  held_.erase(0, held_.size() - rest.size());
}

void Utf8Repair::finish(std::string& out) {
  if (!held_.empty()) out += kReplacementCharacter;
  held_.clear();
}

}  // namespace consort::model
