#include "model/grammar/pattern.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "model/text/utf8.hpp"

namespace consort::model {
namespace {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

constexpr std::uint32_t kLastCodePoint = 0x10FFFF;
struct Range {
  std::uint32_t first = 0, last = 0;
};
using Ranges = std::vector<Range>;

Ranges sorted(Ranges ranges) {
  std::ranges::sort(ranges, {}, &Range::first);
  Ranges out;
  for (const Range& range : ranges) {
    if (!out.empty() && range.first <= out.back().last + 1) {
      out.back().last = std::max(out.back().last, range.last);
    } else {
      out.push_back(range);
    }
  }
  return out;
}

Ranges complement(const Ranges& ranges, std::uint32_t last) {
  Ranges out;
  std::uint32_t at = 0;
  for (const Range& range : sorted(ranges)) {
    if (range.first > last) break;
    if (range.first > at) out.push_back({at, range.first - 1});
    at = range.last + 1;
  }
  if (at <= last) out.push_back({at, last});
  return out;
}

const Ranges kDigits{{'0', '9'}};
const Ranges kWords{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const Ranges kSpaces{{'\t', '\r'}, {' ', ' '}};
// What any engine counts as a space.
const Ranges kAnySpaces{{'\t', '\r'},     {0x1C, ' '},      {0x85, 0x85},     {0xA0, 0xA0},
                        {0x1680, 0x1680}, {0x180E, 0x180E}, {0x2000, 0x200A}, {0x2028, 0x2029},
                        {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const Ranges kLineEnds{{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

// A nondeterministic automaton: nodes with edges by byte, and edges for nothing.
class Automaton {
 public:
  struct Edge {
    std::uint8_t first = 0, last = 0;
    std::uint32_t to = 0;
  };
  struct Node {
    std::vector<Edge> edges;
    std::vector<std::uint32_t> empty;
  };
  std::uint32_t node() {
    nodes_.emplace_back();
    return static_cast<std::uint32_t>(nodes_.size() - 1);
  }
  void skip(std::uint32_t from, std::uint32_t to) { nodes_[from].empty.push_back(to); }
  void characters(std::uint32_t from, std::uint32_t to, const Ranges& ranges);
  bool is_full() const { return nodes_.size() > kMaxPatternNodes; }
  Outcome<ByteDfa> deterministic(std::uint32_t start, std::uint32_t end) const;

 private:
  void bytes(std::uint32_t from, std::uint32_t to, std::string_view first, std::string_view last);
  void close(std::vector<std::uint32_t>& nodes) const;
  std::vector<Node> nodes_;
};

// Sequences of byte ranges: the code points between two whose UTF-8 forms have the same length and agree but for the
// last bytes, which run over all values.
void Automaton::characters(std::uint32_t from, std::uint32_t to, const Ranges& ranges) {
  const auto add = [&](auto& self, std::uint32_t first, std::uint32_t last) -> void {
    for (const std::uint32_t limit : {0x7Fu, 0x7FFu, 0xFFFFu}) {
      if (first <= limit && last > limit) {
        self(self, first, limit);
        return self(self, limit + 1, last);
      }
    }
    if (first > 0x7F) {
      for (int bits = 6; bits <= 18; bits += 6) {
        const std::uint32_t low = (1u << bits) - 1;
        if ((first & ~low) == (last & ~low)) break;
        if ((first & low) != 0) {
          self(self, first, first | low);
          return self(self, (first | low) + 1, last);
        }
        if ((last & low) != low) {
          self(self, first, (last & ~low) - 1);
          return self(self, last & ~low, last);
        }
      }
    }
    std::string a, b;
    append_utf8(a, first);
    append_utf8(b, last);
    bytes(from, to, a, b);
  };
  for (const Range& range : ranges) {
    // Surrogates are no characters.
    if (range.first < 0xD800) add(add, range.first, std::min<std::uint32_t>(range.last, 0xD7FF));
    if (range.last > 0xDFFF) add(add, std::max<std::uint32_t>(range.first, 0xE000), range.last);
  }
}

void Automaton::bytes(std::uint32_t from, std::uint32_t to, std::string_view first, std::string_view last) {
  for (std::size_t i = 0; i < first.size(); ++i) {
    const std::uint32_t next = i + 1 == first.size() ? to : node();
    nodes_[from].edges.push_back({static_cast<std::uint8_t>(first[i]), static_cast<std::uint8_t>(last[i]), next});
    from = next;
  }
}

void Automaton::close(std::vector<std::uint32_t>& nodes) const {
  std::vector<bool> seen(nodes_.size(), false);
  for (const std::uint32_t node : nodes) seen[node] = true;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (const std::uint32_t to : nodes_[nodes[i]].empty) {
      if (seen[to]) continue;
      seen[to] = true;
      nodes.push_back(to);
    }
  }
  std::ranges::sort(nodes);
}

Outcome<ByteDfa> Automaton::deterministic(std::uint32_t start, std::uint32_t end) const {
  std::map<std::vector<std::uint32_t>, std::uint32_t> number_of;
  std::vector<std::vector<std::uint32_t>> states(1);
  std::vector<std::array<std::uint32_t, 256>> table(1);
  std::vector<bool> accepts(1, false);
  table[0].fill(ByteDfa::kDead);
  const auto number = [&](std::vector<std::uint32_t> nodes) {
    close(nodes);
    const auto [found, is_new] = number_of.try_emplace(nodes, static_cast<std::uint32_t>(states.size()));
    if (is_new) states.push_back(std::move(nodes));
    return found->second;
  };
  number({start});
  for (std::size_t i = 1; i < states.size(); ++i) {
    if (states.size() > ByteDfa::kMaxStates) {
      return failure(ErrorKind::kInvalid,
                     "needs more than " + std::to_string(ByteDfa::kMaxStates) + " states; make it simpler");
    }
    table.emplace_back();
    table[i].fill(ByteDfa::kDead);
    accepts.push_back(std::ranges::binary_search(states[i], end));
    std::array<std::vector<std::uint32_t>, 256> to;
    for (const std::uint32_t node : states[i]) {
      for (const Edge& edge : nodes_[node].edges) {
        for (unsigned byte = edge.first; byte <= edge.last; ++byte) to[byte].push_back(edge.to);
      }
    }
    const std::vector<std::uint32_t>* before = nullptr;
    std::uint32_t before_number = ByteDfa::kDead;
    for (unsigned byte = 0; byte < 256; ++byte) {
      auto& nodes = to[byte];
      if (nodes.empty()) continue;
      std::ranges::sort(nodes);
      nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
      if (before == nullptr || *before != nodes) before_number = number(nodes);
      before = &nodes;
      table[i][byte] = before_number;
    }
  }
  return ByteDfa::from_table(std::move(table), std::move(accepts));
}

// What was read of a pattern.
struct Term {
  enum class Kind : std::uint8_t { kNothing, kCharacters, kSequence, kChoice, kRepeat } kind = Kind::kNothing;
  Ranges ranges;
  std::vector<Term> parts;
  std::uint32_t least = 0, most = 0;
  static constexpr std::uint32_t kUnbounded = ~std::uint32_t{0};
};

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  // The whole pattern, with what may stand around it.
  Outcome<Term> read() {
    Term any{Term::Kind::kRepeat, {}, {}, 0, Term::kUnbounded};
    any.parts.push_back({Term::Kind::kCharacters, {{0, kLastCodePoint}}, {}, 0, 0});
    Term choice{Term::Kind::kChoice, {}, {}, 0, 0};
    do {
      const bool from_start = take('^');
      CONSORT_TRY(Term sequence, read_sequence(true));
      const bool to_end = take('$');
      if (!from_start) sequence.parts.insert(sequence.parts.begin(), any);
      if (!to_end) sequence.parts.push_back(any);
      choice.parts.push_back(std::move(sequence));
    } while (take('|'));
    if (at_ < text_.size()) return bad("has ')' or '$' where none can be");
    return choice;
  }

 private:
  runtime::Error bad(const std::string& what) const {
    return failure(ErrorKind::kInvalid, what + ", at byte " + std::to_string(at_));
  }
  bool more() const { return at_ < text_.size(); }
  bool take(char c) {
    if (!more() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  Outcome<std::uint32_t> code_point() {
    const auto lead = static_cast<unsigned char>(text_[at_]);
    if (lead < 0x80) return static_cast<std::uint32_t>(text_[at_++]);
    const int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;  // the pattern came out of a JSON text: it is UTF-8
    std::uint32_t value = lead & (0x3Fu >> more);
    ++at_;
    for (int i = 0; i < more && at_ < text_.size(); ++i, ++at_)
      value = value << 6 | (static_cast<unsigned char>(text_[at_]) & 0x3F);
    return value;
  }
  Outcome<std::uint32_t> hex(int digits) {
    std::uint32_t value = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      const char c = more() ? text_[at_] : '\0';
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return bad("has an escape with too few hexadecimal digits");
      value = value << 4 | static_cast<std::uint32_t>(digit);
    }
    return value;
  }

  Outcome<Term> read_sequence(bool is_top) {
    Term sequence{Term::Kind::kSequence, {}, {}, 0, 0};
    while (more() && text_[at_] != '|' && text_[at_] != ')') {
      if (text_[at_] == '$') {
        const bool ends = is_top && (at_ + 1 == text_.size() || text_[at_ + 1] == '|');
        if (ends) break;
        return bad("has '$' inside of it, which is not supported");
      }
      CONSORT_TRY(Term atom, read_atom());
      CONSORT_TRY(atom, read_quantifier(std::move(atom)));
      sequence.parts.push_back(std::move(atom));
    }
    return sequence;
  }

  Outcome<Term> read_atom() {
    switch (text_[at_]) {
      case '^':
        return bad("has '^' inside of it, which is not supported");
      case '(':
        return read_group();
      case '[':
        return read_class();
      case '.':
        ++at_;
        return Term{Term::Kind::kCharacters, complement(kLineEnds, kLastCodePoint), {}, 0, 0};
      case '\\': {
        ++at_;
        CONSORT_TRY(Ranges ranges, read_escape(false));
        return Term{Term::Kind::kCharacters, std::move(ranges), {}, 0, 0};
      }
      case '*':
      case '+':
      case '?':
      case '{':
        return bad("has a quantifier with nothing before it");
      default: {
        CONSORT_TRY(const std::uint32_t point, code_point());
        return Term{Term::Kind::kCharacters, {{point, point}}, {}, 0, 0};
      }
    }
  }

  Outcome<Term> read_group() {
    ++at_;
    if (take('?')) {
      if (take('<') && more() && text_[at_] != '=' && text_[at_] != '!') {
        const std::size_t end = text_.find('>', at_);
        if (end == std::string_view::npos) return bad("has a group whose name does not end");
        at_ = end + 1;
      } else if (!take(':')) {
        return bad("has a look-around or flags, which are not supported");
      }
    }
    if (++depth_ > kMaxPatternDepth) return bad("has groups nested too deep");
    Term choice{Term::Kind::kChoice, {}, {}, 0, 0};
    do {
      CONSORT_TRY(Term sequence, read_sequence(false));
      choice.parts.push_back(std::move(sequence));
    } while (take('|'));
    --depth_;
    if (!take(')')) return bad("has a group that does not end");
    return choice;
  }

  // After the backslash.
  Outcome<Ranges> read_escape(bool in_class) {
    if (!more()) return bad("ends in a backslash");
    const char c = text_[at_++];
    switch (c) {
      case 'd':
        return kDigits;
      case 'w':
        return kWords;
      case 's':
        return kSpaces;
      case 'D':
        return complement(kDigits, 0x7F);
      case 'W':
        return complement(kWords, 0x7F);
      case 'S':
        return complement(kAnySpaces, kLastCodePoint);
      case 'n':
        return Ranges{{'\n', '\n'}};
      case 'r':
        return Ranges{{'\r', '\r'}};
      case 't':
        return Ranges{{'\t', '\t'}};
      case 'f':
        return Ranges{{'\f', '\f'}};
      case 'v':
        return Ranges{{'\v', '\v'}};
      case 'x':
      case 'u': {
        CONSORT_TRY(const std::uint32_t point, hex(c == 'x' ? 2 : 4));
        if (point >= 0xD800 && point < 0xE000) return bad("has half of a surrogate pair");
        return Ranges{{point, point}};
      }
      case 'b':
        if (in_class) return Ranges{{'\b', '\b'}};
        break;
      default:
        break;
    }
    const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    if (is_letter) return bad(std::string("has \\") + c + ", which is not supported");
    --at_;
    CONSORT_TRY(const std::uint32_t point, code_point());
    return Ranges{{point, point}};
  }

  Outcome<Term> read_class() {
    ++at_;
    const bool negated = take('^');
    Ranges ranges;
    while (true) {
      if (!more()) return bad("has a class that does not end");
      if (take(']')) break;
      CONSORT_TRY(Ranges item, read_class_item());
      if (at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
        ++at_;
        CONSORT_TRY(const Ranges last, read_class_item());
        const bool are_characters = item.size() == 1 && item[0].first == item[0].last && last.size() == 1 &&
                                    last[0].first == last[0].last && item[0].first <= last[0].first;
        if (!are_characters) return bad("has a range in a class that is none");
        item[0].last = last[0].last;
      }
      ranges.insert(ranges.end(), item.begin(), item.end());
    }
    ranges = sorted(std::move(ranges));
    if (negated) ranges = complement(ranges, kLastCodePoint);
    return Term{Term::Kind::kCharacters, std::move(ranges), {}, 0, 0};
  }
  Outcome<Ranges> read_class_item() {
    if (take('\\')) return read_escape(true);
    if (!more()) return bad("has a class that does not end");
    // Other engines read "[[" and "&&" in ways of their own.
    if (text_[at_] == '[') return bad("has '[' in a class; write \\[");
    CONSORT_TRY(const std::uint32_t point, code_point());
    return Ranges{{point, point}};
  }

  Outcome<Term> read_quantifier(Term atom) {
    if (!more()) return atom;
    std::uint32_t least = 0;
    std::uint32_t most = Term::kUnbounded;
    if (take('*')) {
    } else if (take('+')) {
      least = 1;
    } else if (take('?')) {
      most = 1;
    } else if (take('{')) {
      const auto number = [&]() -> std::optional<std::uint32_t> {
        std::optional<std::uint32_t> value;
        while (more() && text_[at_] >= '0' && text_[at_] <= '9' && value.value_or(0) <= kMaxPatternRepeat)
          value = value.value_or(0) * 10 + static_cast<std::uint32_t>(text_[at_++] - '0');
        return value;
      };
      const auto first = number();
      if (!first) return bad("has a '{' that begins no quantifier; write \\{");
      least = most = *first;
      if (take(',')) most = number().value_or(Term::kUnbounded);
      if (!take('}')) return bad("has a quantifier that is not understood");
      if (least > kMaxPatternRepeat || (most != Term::kUnbounded && most > kMaxPatternRepeat))
        return bad("repeats more than " + std::to_string(kMaxPatternRepeat) + " times");
      if (least > most) return bad("has a quantifier whose least is above its most");
    } else {
      return atom;
    }
    take('?');  // lazy: the same texts
    if (more() && (text_[at_] == '*' || text_[at_] == '+' || text_[at_] == '{'))
      return bad("has a quantifier after a quantifier");
    Term repeat{Term::Kind::kRepeat, {}, {}, least, most};
    repeat.parts.push_back(std::move(atom));
    return repeat;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

Status write(Automaton& automaton, const Term& term, std::uint32_t from, std::uint32_t to) {
  if (automaton.is_full()) return failure(ErrorKind::kInvalid, "is too large written out; make it simpler");
  switch (term.kind) {
    case Term::Kind::kNothing:
      automaton.skip(from, to);
      break;
    case Term::Kind::kCharacters:
      automaton.characters(from, to, term.ranges);
      break;
    case Term::Kind::kSequence:
      for (const Term& part : term.parts) {
        const std::uint32_t next = automaton.node();
        CONSORT_RETURN_IF_ERROR(write(automaton, part, from, next));
        from = next;
      }
      automaton.skip(from, to);
      break;
    case Term::Kind::kChoice:
      for (const Term& part : term.parts) CONSORT_RETURN_IF_ERROR(write(automaton, part, from, to));
      break;
    case Term::Kind::kRepeat: {
      for (std::uint32_t i = 0; i < term.least; ++i) {
        const std::uint32_t next = automaton.node();
        CONSORT_RETURN_IF_ERROR(write(automaton, term.parts[0], from, next));
        from = next;
      }
      if (term.most == Term::kUnbounded) {
        const std::uint32_t again = automaton.node();
        automaton.skip(from, again);
        CONSORT_RETURN_IF_ERROR(write(automaton, term.parts[0], again, again));
        automaton.skip(again, to);
        break;
      }
      for (std::uint32_t i = term.least; i < term.most; ++i) {
        automaton.skip(from, to);
        const std::uint32_t next = automaton.node();
        CONSORT_RETURN_IF_ERROR(write(automaton, term.parts[0], from, next));
        from = next;
      }
      automaton.skip(from, to);
      break;
    }
  }
  return runtime::done();
}

}  // namespace

Outcome<ByteDfa> compile_pattern(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes)
    return failure(ErrorKind::kInvalid, "has more than " + std::to_string(kMaxPatternBytes) + " bytes");
  CONSORT_TRY(const Term term, Reader(pattern).read());
  Automaton automaton;
  const std::uint32_t start = automaton.node();
  const std::uint32_t end = automaton.node();
  CONSORT_RETURN_IF_ERROR(write(automaton, term, start, end));
  if (automaton.is_full()) return failure(ErrorKind::kInvalid, "is too large written out; make it simpler");
  return automaton.deterministic(start, end);
}

namespace {

// Years from 0001, days as each month has them: what every validator takes.
constexpr std::string_view kDate =
    "(([0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})-"
    "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
    "|([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)-02-29)";
constexpr std::string_view kTime =
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
constexpr std::string_view kLabel = "[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?";

const std::string& named(std::string_view name) {
  static const std::map<std::string, std::string, std::less<>> kFormats = [] {
    const std::string date(kDate), time(kTime), label(kLabel);
    const std::string byte = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    const std::string digits = "[0-9]{1,6}";
    std::map<std::string, std::string, std::less<>> formats;
    formats["date"] = "^" + date + "$";
    formats["time"] = "^" + time + "$";
    formats["date-time"] = "^" + date + "T" + time + "$";
    const std::string clock =
        "T(" + digits + "H(" + digits + "M(" + digits + "S)?)?|" + digits + "M(" + digits + "S)?|" + digits + "S)";
    const std::string days = digits + "D", months = digits + "M(" + days + ")?";
    formats["duration"] = "^P(" + digits + "W|(" + digits + "Y(" + months + ")?|" + months + "|" + days + ")(" + clock +
                          ")?|" + clock + ")$";
    formats["uuid"] = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$";
    formats["email"] = "^[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,16})?@" + label + "(\\." + label + "){1,3}$";
    formats["hostname"] = "^" + label + "(\\." + label + "){0,3}$";
    formats["ipv4"] = "^" + byte + "(\\." + byte + "){3}$";
    formats["ipv6"] = "^[0-9a-fA-F]{1,4}(:[0-9a-fA-F]{1,4}){7}$";
    return formats;
  }();
  static const std::string kNone;
  const auto found = kFormats.find(name);
  return found == kFormats.end() ? kNone : found->second;
}

}  // namespace

std::string_view pattern_of_format(std::string_view format) { return named(format); }

}  // namespace consort::model
