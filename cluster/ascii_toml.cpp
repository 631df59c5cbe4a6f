#include "cluster/ascii_toml.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <optional>

namespace consort::cluster {

namespace {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }
bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return is_ascii(c); });
}

// Where a text in quotes lies: its first quote, what is in it, and what follows. Three quotes span lines; one ends with
// its line at the latest. What is never closed ends where the text does: toml++ says so.
struct Quoted {
  std::size_t inside, inside_end, end;
};
Quoted find_quoted(std::string_view text, std::size_t at) {
  const char quote = text[at];
  const std::string_view three = quote == '"' ? R"(""")" : "'''";
  const bool spans_lines = text.substr(at, 3) == three;
  const std::size_t mark = spans_lines ? 3 : 1;
  const std::size_t inside = at + mark;
  for (at = inside; at < text.size(); ++at) {
    if (quote == '"' && text[at] == '\\') {
      ++at;  // whatever stands behind it closes nothing
    } else if (spans_lines ? text.substr(at, 3) == three : text[at] == quote) {
      for (int more = 0; spans_lines && more < 2 && text.substr(at + 3, 1) == three.substr(0, 1); ++more) ++at;
      return {inside, at, at + mark};
    } else if (!spans_lines && text[at] == '\n') {
      return {inside, at, at};
    }
  }
  return {inside, text.size(), text.size()};
}

// Takes one character off the front of `text`; nothing where that is not UTF-8 (Unicode 15, table 3-7).
std::optional<std::uint32_t> take_character(std::string_view& text) {
  struct Form {
    std::uint32_t mark, mask, least;
  };
  static constexpr std::array<Form, 3> kForms = {{{0xC0, 0x1F, 0x80}, {0xE0, 0x0F, 0x800}, {0xF0, 0x07, 0x10000}}};
  const auto byte = [&](std::size_t i) { return std::uint32_t{static_cast<unsigned char>(text[i])}; };
  for (std::size_t more = 1; more <= kForms.size(); ++more) {
    const Form& form = kForms[more - 1];
    if ((byte(0) & ~form.mask & 0xFF) != form.mark) continue;
    if (text.size() <= more) return std::nullopt;
    std::uint32_t value = byte(0) & form.mask;
    for (std::size_t i = 1; i <= more; ++i) {
      if ((byte(i) & 0xC0) != 0x80) return std::nullopt;
      value = value << 6 | (byte(i) & 0x3F);
    }
    const bool is_surrogate = value >= 0xD800 && value <= 0xDFFF;
    if (value < form.least || value > 0x10FFFF || is_surrogate) return std::nullopt;
    text.remove_prefix(more + 1);
    return value;
  }
  return std::nullopt;
}

// Appends what is in quotes as a basic string spells it. Returns what it cannot spell and all behind that.
std::string_view append_escaped(std::string& out, std::string_view inside, bool is_literal) {
  while (!inside.empty()) {
    const std::string_view rest = inside;
    if (!is_ascii(inside[0])) {
      const auto character = take_character(inside);
      if (!character) return rest;
      std::array<char, 11> escape;  // \U, eight digits, end
      std::snprintf(escape.data(), escape.size(), "\\U%08X", static_cast<unsigned>(*character));
      out += escape.data();
      continue;
    }
    if (is_literal && (inside[0] == '\\' || inside[0] == '"')) out += '\\';
    const std::size_t taken = !is_literal && inside[0] == '\\' && inside.size() > 1 ? 2 : 1;
    if (!is_ascii(inside[taken - 1])) return rest;  // our escape behind a backslash would be another text
    out += inside.substr(0, taken);
    inside.remove_prefix(taken);
  }
  return inside;
}

}  // namespace

Outcome<std::string> ascii_toml(std::string_view text, const std::string& path) {
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  const auto wrong = [&](std::size_t at, const std::string& what) {
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
    return failure(ErrorKind::kInvalid, path + ":" + std::to_string(line) + ": " + what);
  };
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == '#') {
      const std::size_t end = std::min(text.find('\n', at), text.size());
      for (; at < end; ++at) out += is_ascii(text[at]) ? text[at] : '?';
    } else if (text[at] == '"' || text[at] == '\'') {
      const Quoted quoted = find_quoted(text, at);
      const std::string_view whole = text.substr(at, quoted.end - at);
      if (is_ascii(whole)) {
        out += whole;
      } else {
        const bool is_literal = text[at] == '\'';
        out.append(quoted.inside - at, '"');
        const std::string_view inside = text.substr(quoted.inside, quoted.inside_end - quoted.inside);
        if (const auto rest = append_escaped(out, inside, is_literal); !rest.empty()) {
          return wrong(quoted.inside_end - rest.size(),
                       rest[0] == '\\' ? "a backslash stands before a character that it cannot escape"
                                       : "holds bytes that are not UTF-8");
        }
        out.append(quoted.end - quoted.inside_end, '"');
      }
      at = quoted.end;
    } else if (is_ascii(text[at])) {
      out += text[at++];
    } else {
      return wrong(at, "holds a character that is not ASCII outside of quotes and comments");
    }
  }
  return out;
}

}  // namespace consort::cluster
