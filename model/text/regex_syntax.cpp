#include "model/text/regex_syntax.hpp"

#include <algorithm>
#include <array>

namespace consort::model {
namespace {

using runtime::ErrorKind;
using runtime::Status;

// The code points with Unicode's White_Space, and all the others.
constexpr std::string_view kSpace =
    R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr std::string_view kNotSpace =
    R"(\x{0}-\x{8}\x{E}-\x{1F}\x{21}-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027})"
    R"(\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";

constexpr std::array<std::string_view, 37> kCategories = {
    "L",  "Ll", "Lm", "Lo", "Lt", "Lu", "M",  "Mc", "Me", "Mn", "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Pe", "Pf",
    "Pi", "Po", "Ps", "S",  "Sc", "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs", "C",  "Cc", "Cf", "Cn", "Co", "Cs"};

constexpr std::array<std::string_view, 8> kGroupStarts = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?i)"};

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_word(char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

class Rewriter {
 public:
  explicit Rewriter(std::string_view pattern) : in_(pattern) {}

  runtime::Outcome<std::string> run() {
    while (at_ < in_.size()) {
      Status step = in_class_ ? class_member() : element();
      if (!step.ok()) return std::move(step).error();
    }
    if (in_class_) return refuse(in_.size(), "a character class without its ]");
    return std::move(out_);
  }

 private:
  runtime::Error refuse(std::size_t where, std::string_view what) const {
    return runtime::failure(ErrorKind::kInvalid, "the pattern has " + std::string(what) + " at byte " +
                                                     std::to_string(where) + ", which this program does not read");
  }
  bool starts(std::string_view what) const { return in_.substr(at_).starts_with(what); }
  char peek(std::size_t ahead) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }
  void keep(std::size_t bytes) {
    out_ += in_.substr(at_, bytes);
    at_ += bytes;
  }

  Status element() {
    switch (in_[at_]) {
      case '\\':
        return escape();
      case '[':
        return open_class();
      case '(':
        return group();
      case '{':
        return repeat();
      default:
        keep(1);
        return runtime::done();
    }
  }

  Status open_class() {
    in_class_ = true;
    keep(peek(1) == '^' ? 2 : 1);
    if (peek(0) == ']') return refuse(at_, "a ] that opens a character class");
    member_ = Member::kNone;
    return runtime::done();
  }

  Status group() {
    if (peek(1) == '*') return refuse(at_, "(*");
    if (peek(1) != '?') {
      keep(1);
      return runtime::done();
    }
    for (std::string_view start : kGroupStarts) {
      if (!starts(start)) continue;
      keep(start.size());
      return runtime::done();
    }
    return refuse(at_, "a group of another kind than (?: (?= (?! (?<= (?<! (?> (?i: (?i)");
  }

  // {n}, {n,} or {n,m}. A + behind it repeats in Ruby and is possessive in PCRE2.
  Status repeat() {
    std::size_t i = 1;
    while (is_digit(peek(i))) ++i;
    const bool counted = i > 1;
    if (peek(i) == ',') ++i;
    while (is_digit(peek(i))) ++i;
    if (!counted || peek(i) != '}') return refuse(at_, "a { that is no {n}, {n,} or {n,m}");
    if (peek(i + 1) == '+') return refuse(at_, "a + behind {}");
    keep(i + 1);
    return runtime::done();
  }

  Status class_member() {
    const char c = in_[at_];
    if (c == ']') {
      in_class_ = false;
      keep(1);
      return runtime::done();
    }
    if (c == '[') return refuse(at_, "a [ inside a character class");
    if (starts("&&")) return refuse(at_, "&& inside a character class");
    if (c == '\\') return escape();
    const bool dash = c == '-' && member_ != Member::kNone && peek(1) != ']';
    if (dash && member_ == Member::kSet) return refuse(at_, "a range that starts with a set");
    member_ = dash ? Member::kDash : Member::kCharacter;
    keep(1);
    return runtime::done();
  }

  Status escape() {
    const char c = peek(1);
    if (c == 's' || c == 'S' || c == 'd' || c == 'D' || c == 'p' || c == 'P') return set(c);
    member_ = Member::kCharacter;
    switch (c) {
      case 'r':
      case 'n':
      case 't':
      case 'f':
        keep(2);
        return runtime::done();
      case 'v':
        return put(R"(\x{B})", 2);
      case 'u':
        return code_point(2, 4);
      case 'x': {
        if (peek(2) != '{') return code_point(2, 2);
        std::size_t digits = 0;
        while (is_hex(peek(3 + digits))) ++digits;
        if (digits == 0 || digits > 6 || peek(3 + digits) != '}') return refuse(at_, "an unfinished \\x{");
        keep(digits + 4);
        return runtime::done();
      }
      default:
        break;
    }
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte >= 0x7F || is_word(c)) return refuse(at_, std::string("the escape \\") + c);
    keep(2);
    return runtime::done();
  }

  Status set(char c) {
    if (in_class_ && member_ == Member::kDash) return refuse(at_, "a range that ends with a set");
    member_ = Member::kSet;
    if (c == 'd' || c == 'D') {
      keep(2);
      return runtime::done();
    }
    if (c == 's' || c == 'S') {
      const std::string members(c == 's' ? kSpace : kNotSpace);
      return put(in_class_ ? members : "[" + members + "]", 2);
    }
    const std::size_t close = in_.find('}', at_);
    if (peek(2) != '{' || close == std::string_view::npos) return refuse(at_, "an unfinished \\p{");
    const std::string_view category = in_.substr(at_ + 3, close - at_ - 3);
    if (std::find(kCategories.begin(), kCategories.end(), category) == kCategories.end()) {
      return refuse(at_, "the property " + std::string(category.substr(0, 40)));
    }
    keep(close + 1 - at_);
    return runtime::done();
  }

  Status code_point(std::size_t from, std::size_t digits) {
    for (std::size_t i = 0; i < digits; ++i) {
      if (!is_hex(peek(from + i))) return refuse(at_, "an unfinished hexadecimal escape");
    }
    // In UTF-8 Oniguruma's \xHH is a byte, not a character.
    if (digits == 2 && peek(from) > '7') return refuse(at_, "a byte above \\x7F");
    return put(R"(\x{)" + std::string(in_.substr(at_ + from, digits)) + "}", from + digits);
  }

  Status put(std::string_view text, std::size_t bytes) {
    out_ += text;
    at_ += bytes;
    return runtime::done();
  }

  enum class Member { kNone, kCharacter, kDash, kSet };  // what stands before, inside a class
  std::string_view in_;
  std::string out_;
  std::size_t at_ = 0;
  bool in_class_ = false;
  Member member_ = Member::kNone;
};

}  // namespace

runtime::Outcome<std::string> pcre2_pattern(std::string_view oniguruma) { return Rewriter(oniguruma).run(); }

}  // namespace consort::model
