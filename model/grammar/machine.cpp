#include "model/grammar/machine.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>

#include "model/text/utf8.hpp"

namespace consort::model {

using Frame = GrammarFrame;
using Place = GrammarFrame::Place;
using Thread = GrammarThread;

namespace {

constexpr std::uint8_t kMaxIndentation = 32;  // blanks behind a line feed: eight levels of four

// Phases of arrays and objects. `small` counts the blanks: 1 is one blank, 2 + n a line feed and n blanks. `count` are
// the items or properties so far. Of an object `number` is the first property that may still come, one more than there
// are once there was another one; `smaller` are those whose names surely differ: its own, and one other; `extra` is the
// node of the value behind a key.
enum ContainerPhase : std::uint8_t { kOpened, kAfterComma, kAfterValue, kAfterKey, kAfterColon };

// One more blank, or none: a blank, or a line feed with an indentation, and nothing behind these.
bool take_blank(Frame& frame, std::uint8_t byte) {
  if (byte == '\n' && frame.small == 0) {
    frame.small = 2;
  } else if (byte == ' ' && frame.small == 0) {
    frame.small = 1;
  } else if (byte == ' ' && frame.small >= 2 && frame.small < 2 + kMaxIndentation) {
    ++frame.small;
  } else {
    return false;
  }
  return true;
}

// Phases of strings. `count` are the characters so far, `extra` the pattern's state (of another key: the place in the
// tree of the names), `number` collects an escape's digits, `small` counts what is still to come of a character or of
// these digits, `smaller` says which second bytes fit.
enum StringPhase : std::uint8_t { kInside, kInCharacter, kEscape, kHex, kLowBackslash, kLowU, kLowHex };

// Phases of numbers. `count` are the digits of the part, or of all where there are bounds; `number` is then their
// value, `small` whether it is negative, `smaller` how many digits lie behind the point.
enum NumberPhase : std::uint8_t {
  kSign,
  kAfterMinus,
  kZero,
  kWhole,
  kPoint,
  kFraction,
  kExponent,
  kExponentSign,
  kPower
};

constexpr std::array<std::int64_t, 19> kPowers = [] {
  std::array<std::int64_t, 19> powers{};
  std::int64_t value = 1;
  for (auto& power : powers) {
    power = value;
    value = value > INT64_MAX / 10 ? value : value * 10;
  }
  return powers;
}();

bool is_digit(std::uint8_t byte) { return byte >= '0' && byte <= '9'; }

int hex_value(std::uint8_t byte) {
  if (is_digit(byte)) return byte - '0';
  if (byte >= 'a' && byte <= 'f') return byte - 'a' + 10;
  if (byte >= 'A' && byte <= 'F') return byte - 'A' + 10;
  return -1;
}

// A multiple of `multiple` between the two, with this sign, inside of the bounds.
bool has_value(const NumberShape& shape, bool negative, std::int64_t first, std::int64_t last) {
  std::int64_t low = negative ? -shape.high : shape.low;
  std::int64_t high = negative ? -shape.low : shape.high;
  low = std::max({low, first, negative ? std::int64_t{1} : std::int64_t{0}});
  high = std::min(high, last);
  if (low > high) return false;
  const std::int64_t least = (low + shape.multiple_of - 1) / shape.multiple_of * shape.multiple_of;
  return least <= high;
}

}  // namespace

const GrammarStack* GrammarArena::push(const GrammarStack* below, const Frame& frame) {
  const bool is_container = frame.place == Place::kArray || frame.place == Place::kObject;
  entries_.push_back({below, frame, (below == nullptr ? 0 : below->depth) + (is_container ? 1 : 0)});
  return &entries_.back();
}

struct GrammarMachine::Step {
  const Grammar& grammar;
  std::uint8_t byte;
  std::vector<Thread>& out;
  GrammarArena& arena;
  bool has_ended_values = false;

  void emit(const GrammarStack* below, const Frame& top) {
    if (out.size() < kMaxThreads) out.push_back({below, top});
  }
  void end_value(const GrammarStack* below) {
    has_ended_values = true;
    emit(below->below, below->frame);
  }

  void take(const Thread& thread);
  void program(const Thread& thread);
  void literal(const Thread& thread);
  void bounded_number(const Thread& thread, const NumberShape& shape);
  void number(const Thread& thread);
  void string(const Thread& thread);
  void end_string(const Thread& thread);
  bool string_character(Frame& frame, std::uint32_t code_point) const;
  bool string_byte(Frame& frame, std::uint8_t raw) const;
  void begin_character(Thread thread);
  void escape(Thread thread);
  void hex(Thread thread);
  bool can_escape(const Frame& frame) const;
  bool can_control(const Frame& frame, std::uint32_t first, std::uint32_t last) const;
  void array(const Thread& thread);
  void object(const Thread& thread);
  void keys(const Thread& thread);
  void key(const Thread& thread);
  void value(GrammarNode node, const GrammarStack* below);

  bool fits(GrammarNode node, std::uint32_t depth) const {
    return node != kNoNode && grammar.nodes[node].height != Grammar::kNeverEnds &&
           grammar.nodes[node].height + depth <= kMaxNesting;
  }
  static std::uint32_t depth_of(const GrammarStack* stack) { return stack == nullptr ? 0 : stack->depth; }

  // How deep what is inside of this container lies.
  std::uint32_t inner_depth(const Thread& thread) const { return depth_of(thread.below) + 1; }
  bool can_add_item(const Thread& thread) const {
    const ArrayShape& shape = grammar.arrays[thread.top.shape];
    return thread.top.count < shape.max && fits(shape.child(thread.top.count), inner_depth(thread));
  }
  bool can_choose(const ObjectShape& shape, const Frame& frame, std::size_t property, std::uint32_t depth) const;
  bool can_add_other(const ObjectShape& shape, const Frame& frame, std::uint32_t depth) const {
    if (frame.count >= shape.max || shape.required_after(frame.number) > 0) return false;
    const bool is_first = frame.number <= shape.properties.size();
    return frame.smaller + (is_first ? 1u : 0u) >= shape.min && fits(shape.additional, depth);
  }
  template <class Use>
  void each_choice(const Thread& thread, Use use) const;
  bool can_add_property(const Thread& thread) const {
    bool can = can_add_other(grammar.objects[thread.top.shape], thread.top, inner_depth(thread));
    each_choice(thread, [&](std::size_t) { can = true; });
    return can;
  }
  bool can_close(const Thread& thread) const {
    if (thread.top.place == Place::kArray) return thread.top.count >= grammar.arrays[thread.top.shape].min;
    const ObjectShape& shape = grammar.objects[thread.top.shape];
    return thread.top.smaller >= shape.min && shape.required_after(thread.top.number) == 0;
  }
  // An object that needs more properties than the required must find them at its depth.
  bool can_begin_object(const ObjectShape& shape, std::uint32_t depth) const {
    std::uint32_t possible = 0;
    for (const auto& property : shape.properties) possible += fits(property.value, depth) ? 1 : 0;
    return possible + (fits(shape.additional, depth) ? 1 : 0) >= shape.min;
  }
};

// --- program, literals -----------------------------------------------------------------------------------------------

void GrammarMachine::Step::program(const Thread& thread) {
  for (const Grammar::Edge& edge : grammar.program[thread.top.shape]) {
    Frame next = thread.top;
    next.shape = edge.next;
    if (edge.kind == Grammar::Edge::Kind::kByte && edge.what == byte) emit(thread.below, next);
    if (edge.kind == Grammar::Edge::Kind::kValue) value(edge.what, arena.push(thread.below, next));
  }
}

void GrammarMachine::Step::literal(const Thread& thread) {
  const ByteTrie& texts = grammar.literals[thread.top.shape].texts;
  Frame next = thread.top;
  next.extra = texts.next(thread.top.extra, byte);
  if (next.extra == ByteTrie::kNone) return;
  if (texts.ends(next.extra)) end_value(thread.below);
  if (!texts.is_leaf(next.extra)) emit(thread.below, next);
}

// --- numbers ---------------------------------------------------------------------------------------------------------

void GrammarMachine::Step::number(const Thread& thread) {
  const NumberShape& shape = grammar.numbers[thread.top.shape];
  if (shape.is_bounded) return bounded_number(thread, shape);
  Frame next = thread.top;
  next.count = thread.top.count + 1;
  bool may_end = true;
  switch (thread.top.phase) {
    case kSign:
    case kAfterMinus:
      next.count = 1;
      if (byte == '-' && thread.top.phase == kSign) {
        next.phase = kAfterMinus;
        may_end = false;
      } else if (is_digit(byte)) {
        next.phase = byte == '0' ? kZero : kWhole;
      } else {
        return;
      }
      break;
    case kZero:
    case kWhole:
      if (is_digit(byte) && thread.top.phase == kWhole && thread.top.count < NumberShape::kMaxDigits) break;
      if (shape.is_integer) return;
      next.count = 0;
      may_end = false;
      if (byte == '.') {
        next.phase = kPoint;
      } else if (byte == 'e' || byte == 'E') {
        next.phase = kExponent;
      } else {
        return;
      }
      break;
    case kPoint:
      if (!is_digit(byte)) return;
      next.phase = kFraction;
      break;
    case kFraction:
      if (is_digit(byte) && thread.top.count < NumberShape::kMaxDigits) break;
      if (byte != 'e' && byte != 'E') return;
      next.phase = kExponent;
      next.count = 0;
      may_end = false;
      break;
    case kExponent:
      if (byte == '+' || byte == '-') {
        next.phase = kExponentSign;
        next.count = 0;
        may_end = false;
        break;
      }
      [[fallthrough]];
    case kExponentSign:
      if (!is_digit(byte)) return;
      next.phase = kPower;
      next.count = 1;
      break;
    default:
      if (!is_digit(byte) || thread.top.count >= NumberShape::kMaxExponentDigits) return;
      break;
  }
  if (may_end) end_value(thread.below);
  emit(thread.below, next);
}

// Digit by digit, as long as some way to go on ends between the bounds.
void GrammarMachine::Step::bounded_number(const Thread& thread, const NumberShape& shape) {
  const std::int64_t unit = kPowers[shape.fraction_digits];
  Frame next = thread.top;
  const bool negative = next.small != 0;
  auto so_far = static_cast<std::int64_t>(thread.top.number);
  const auto whole_fits = [&](std::int64_t digits, std::uint32_t digit_count) {
    for (std::uint32_t more = 0; digit_count + more + shape.fraction_digits <= NumberShape::kMaxDigits; ++more) {
      const std::int64_t first = digits * kPowers[more];
      if (has_value(shape, negative, first * unit, (first + kPowers[more]) * unit - 1)) return true;
      if (digits == 0) break;  // no zeros before a number
    }
    return false;
  };
  const auto is_in = [&](std::int64_t units) { return has_value(shape, negative, units, units); };
  switch (thread.top.phase) {
    case kSign:
      if (byte == '-') {
        if (!has_value(shape, true, 0, INT64_MAX - shape.multiple_of)) return;
        next.small = 1;
        next.phase = kAfterMinus;
        return emit(thread.below, next);
      }
      [[fallthrough]];
    case kAfterMinus:
      if (!is_digit(byte) || !whole_fits(byte - '0', 1)) return;
      next.number = static_cast<std::uint64_t>(byte - '0');
      next.phase = byte == '0' ? kZero : kWhole;
      next.count = 1;
      if (is_in((byte - '0') * unit)) end_value(thread.below);
      return emit(thread.below, next);
    case kZero:
    case kWhole:
      if (byte == '.' && shape.fraction_digits > 0) {
        if (!has_value(shape, negative, so_far * unit, so_far * unit + unit - 1)) return;
        next.phase = kPoint;
        return emit(thread.below, next);
      }
      if (!is_digit(byte) || thread.top.phase == kZero) return;
      if (thread.top.count + 1 + shape.fraction_digits > NumberShape::kMaxDigits) return;
      so_far = so_far * 10 + (byte - '0');
      if (!whole_fits(so_far, thread.top.count + 1)) return;
      next.number = static_cast<std::uint64_t>(so_far);
      ++next.count;
      if (is_in(so_far * unit)) end_value(thread.below);
      return emit(thread.below, next);
    default: {
      if (!is_digit(byte) || thread.top.smaller >= shape.fraction_digits) return;
      so_far = so_far * 10 + (byte - '0');
      ++next.smaller;
      const std::int64_t rest = kPowers[shape.fraction_digits - next.smaller];
      if (!has_value(shape, negative, so_far * rest, so_far * rest + rest - 1)) return;
      next.number = static_cast<std::uint64_t>(so_far);
      next.phase = kFraction;
      if (is_in(so_far * rest)) end_value(thread.below);
      return emit(thread.below, next);
    }
  }
}

// --- strings ---------------------------------------------------------------------------------------------------------

// The pattern, or the names that another key must not be, go on by a byte of what the string says.
bool GrammarMachine::Step::string_byte(Frame& frame, std::uint8_t raw) const {
  if (frame.place == Place::kOtherKey) {
    if (frame.extra != ByteTrie::kNone) frame.extra = grammar.objects[frame.shape].names.next(frame.extra, raw);
    return true;
  }
  const StringShape& shape = grammar.strings[frame.shape];
  if (shape.pattern == kNoNode) return true;
  frame.extra = grammar.patterns[shape.pattern].next(frame.extra, raw);
  return frame.extra != ByteDfa::kDead;
}

// A whole character, said by an escape.
bool GrammarMachine::Step::string_character(Frame& frame, std::uint32_t code_point) const {
  std::string bytes;
  append_utf8(bytes, code_point);
  return std::ranges::all_of(bytes, [&](char c) { return string_byte(frame, static_cast<std::uint8_t>(c)); });
}

namespace {

// Counts a character, where one more may come.
bool count_character(const Grammar& grammar, Frame& frame) {
  if (frame.place == Place::kOtherKey) return true;
  const StringShape& shape = grammar.strings[frame.shape];
  if (shape.max_length == kNoLimit) {
    frame.count = std::min(frame.count + 1, shape.min_length);
    return true;
  }
  return ++frame.count <= shape.max_length;
}

// Without a most, how many there are does not matter.
void count_property(const ObjectShape& shape, Frame& object) {
  if (shape.max != kNoLimit) ++object.count;
}

}  // namespace

void GrammarMachine::Step::end_string(const Thread& thread) {
  const Frame& top = thread.top;
  if (top.place == Place::kOtherKey) {
    const ObjectShape& shape = grammar.objects[top.shape];
    if (top.extra != ByteTrie::kNone && shape.names.ends(top.extra)) return;
    Frame object = thread.below->frame;
    object.extra = shape.additional;
    if (object.number <= shape.properties.size() && object.smaller < kMaxProperties) ++object.smaller;
    object.number = shape.properties.size() + 1;
    count_property(shape, object);
    return emit(thread.below->below, object);
  }
  const StringShape& shape = grammar.strings[top.shape];
  if (top.count < shape.min_length) return;
  if (shape.pattern != kNoNode && !grammar.patterns[shape.pattern].accepts(top.extra)) return;
  end_value(thread.below);
}

void GrammarMachine::Step::begin_character(Thread thread) {
  Frame& next = thread.top;
  if (byte < 0x20 || (byte >= 0x80 && byte < 0xC2) || byte > 0xF4) return;
  if (!count_character(grammar, next) || !string_byte(next, byte)) return;
  if (byte >= 0x80) {
    next.phase = kInCharacter;
    next.small = byte >= 0xF0 ? 3 : byte >= 0xE0 ? 2 : 1;
    next.smaller = byte == 0xE0 ? 1 : byte == 0xED ? 2 : byte == 0xF0 ? 3 : byte == 0xF4 ? 4 : 0;
  }
  emit(thread.below, next);
}

void GrammarMachine::Step::string(const Thread& thread) {
  Thread next = thread;
  Frame& frame = next.top;
  switch (thread.top.phase) {
    case kInside:
      if (byte == '"') return end_string(thread);
      if (byte != '\\') return begin_character(next);
      if (!count_character(grammar, frame) || !can_escape(thread.top)) return;
      frame.phase = kEscape;
      return emit(next.below, frame);
    case kInCharacter: {
      constexpr std::array<std::uint8_t, 5> kFirst = {0x80, 0xA0, 0x80, 0x90, 0x80};
      constexpr std::array<std::uint8_t, 5> kLast = {0xBF, 0xBF, 0x9F, 0xBF, 0x8F};
      if (byte < kFirst[frame.smaller] || byte > kLast[frame.smaller] || !string_byte(frame, byte)) return;
      frame.smaller = 0;
      if (--frame.small == 0) frame.phase = kInside;
      return emit(next.below, frame);
    }
    case kEscape:
      return escape(next);
    default:
      return hex(next);
  }
}

// Whether a pattern lets any escape come: the two that must be one, the short ones, control characters.
bool GrammarMachine::Step::can_escape(const Frame& frame) const {
  const auto can = [&](std::uint8_t raw) {
    Frame next = frame;
    return string_byte(next, raw);
  };
  if (frame.place == Place::kOtherKey || grammar.strings[frame.shape].pattern == kNoNode) return true;
  return can('"') || can('\\') || can('/') || can_control(frame, 0, 0x1F);
}

bool GrammarMachine::Step::can_control(const Frame& frame, std::uint32_t first, std::uint32_t last) const {
  for (std::uint32_t c = first; c <= last; ++c) {
    Frame next = frame;
    if (string_byte(next, static_cast<std::uint8_t>(c))) return true;
  }
  return false;
}

void GrammarMachine::Step::escape(Thread thread) {
  constexpr std::string_view kNames = "\"\\/bfnrt";
  constexpr std::string_view kMeant = "\"\\/\b\f\n\r\t";
  Frame& frame = thread.top;
  if (byte == 'u') {
    frame.phase = kHex;
    frame.small = 4;
    frame.number = 0;
    const bool has_pattern = frame.place == Place::kString && grammar.strings[frame.shape].pattern != kNoNode;
    if (has_pattern && !can_control(frame, 0, 0x1F)) return;
    return emit(thread.below, frame);
  }
  const std::size_t at = kNames.find(static_cast<char>(byte));
  if (at == std::string_view::npos || !string_byte(frame, static_cast<std::uint8_t>(kMeant[at]))) return;
  frame.phase = kInside;
  emit(thread.below, frame);
}

// \uXXXX, and its second half where it begins a surrogate pair. Where there is a pattern only control characters are
// written so: all others have a shorter way.
void GrammarMachine::Step::hex(Thread thread) {
  Frame& frame = thread.top;
  if (frame.phase == kLowBackslash || frame.phase == kLowU) {
    if (byte != (frame.phase == kLowBackslash ? '\\' : 'u')) return;
    frame.small = 4;
    frame.phase = frame.phase == kLowBackslash ? kLowU : kLowHex;
    return emit(thread.below, frame);
  }
  const int digit = hex_value(byte);
  if (digit < 0) return;
  // The first half of a pair stays above the digits of the second.
  const std::uint64_t high = frame.number >> 16 << 16;
  const auto unit =
      static_cast<std::uint32_t>(((frame.number & 0xFFFF) << 4 | static_cast<std::uint64_t>(digit)) & 0xFFFF);
  frame.number = high | unit;
  --frame.small;
  if (frame.phase == kLowHex) {
    const std::uint32_t shown = unit << (4 * frame.small);
    const bool may_be_low = shown <= 0xDFFF && (shown | ((1u << (4 * frame.small)) - 1)) >= 0xDC00;
    if (!may_be_low) return;
    if (frame.small > 0) return emit(thread.below, frame);
    const auto first = static_cast<std::uint32_t>(high >> 16);
    if (!string_character(frame, 0x10000 + ((first - 0xD800) << 10) + (unit - 0xDC00))) return;
    frame.number = 0;
    frame.phase = kInside;
    return emit(thread.below, frame);
  }
  const std::uint32_t shown = unit << (4 * frame.small);
  const std::uint32_t largest = shown | ((1u << (4 * frame.small)) - 1);
  if (shown >= 0xDC00 && largest <= 0xDFFF) return;  // the second half of a pair cannot come first
  const bool has_pattern = frame.place == Place::kString && grammar.strings[frame.shape].pattern != kNoNode;
  if (has_pattern && (shown > 0x1F || !can_control(frame, shown, std::min(largest, 0x1Fu)))) return;
  if (frame.small > 0) return emit(thread.below, frame);
  if (unit >= 0xD800 && unit <= 0xDBFF) {
    frame.number = std::uint64_t{unit} << 16;
    frame.phase = kLowBackslash;
    return emit(thread.below, frame);
  }
  if (!string_character(frame, unit)) return;
  frame.number = 0;
  frame.phase = kInside;
  emit(thread.below, frame);
}

// --- arrays and objects
// ------------------------------------------------------------------------------------------------

void GrammarMachine::Step::array(const Thread& thread) {
  Frame next = thread.top;
  const bool is_blank = byte == ' ' || byte == '\n';
  if (next.phase == kAfterValue) {
    if (byte == ']' && can_close(thread)) return end_value(thread.below);
    if (is_blank && can_close(thread) && take_blank(next, byte)) return emit(thread.below, next);
    if (byte != ',' || next.small != 0 || !can_add_item(thread)) return;
    next.phase = kAfterComma;
    return emit(thread.below, next);
  }
  if (is_blank) {
    if (take_blank(next, byte)) emit(thread.below, next);
    return;
  }
  if (byte == ']' && next.phase == kOpened && can_close(thread)) return end_value(thread.below);
  if (!can_add_item(thread)) return;
  const GrammarNode child = grammar.arrays[next.shape].child(next.count);
  const ArrayShape& shape = grammar.arrays[next.shape];
  // Without a most, only how many are missing matters.
  const std::uint32_t enough = std::max<std::uint32_t>(shape.min, static_cast<std::uint32_t>(shape.prefix.size()));
  next.count = shape.max == kNoLimit ? std::min(next.count + 1, enough) : next.count + 1;
  next.phase = kAfterValue;
  next.small = 0;
  value(child, arena.push(thread.below, next));
}

bool GrammarMachine::Step::can_choose(const ObjectShape& shape, const Frame& frame, std::size_t property,
                                      std::uint32_t depth) const {
  if (!fits(shape.properties[property].value, depth)) return false;
  const std::uint32_t its = shape.properties[property].required ? 0 : 1;
  if (frame.count + its + shape.required_after(property) > shape.max) return false;
  if (frame.smaller + 1u >= shape.min) return true;
  std::uint32_t left = fits(shape.additional, depth) ? 1 : 0;
  for (std::size_t i = property + 1; i < shape.properties.size(); ++i)
    left += fits(shape.properties[i].value, depth) ? 1 : 0;
  return frame.smaller + 1u + left >= shape.min;
}

// The properties that may come next: those up to the first that must.
template <class Use>
void GrammarMachine::Step::each_choice(const Thread& thread, Use use) const {
  const ObjectShape& shape = grammar.objects[thread.top.shape];
  for (std::size_t i = thread.top.number; i < shape.properties.size(); ++i) {
    if (can_choose(shape, thread.top, i, inner_depth(thread))) use(i);
    if (shape.properties[i].required) break;
  }
}

void GrammarMachine::Step::keys(const Thread& thread) {
  Frame object = thread.top;
  object.phase = kAfterKey;
  object.small = 0;
  const GrammarStack* below = arena.push(thread.below, object);
  Frame key;
  key.shape = object.shape;
  key.place = Place::kKey;
  each_choice(thread, [&](std::size_t property) {
    key.extra = static_cast<std::uint32_t>(property);
    emit(below, key);
  });
  if (!can_add_other(grammar.objects[object.shape], thread.top, inner_depth(thread))) return;
  key.place = Place::kOtherKey;
  key.extra = ByteTrie::kRoot;
  emit(below, key);
}

void GrammarMachine::Step::key(const Thread& thread) {
  const auto& property = grammar.objects[thread.top.shape].properties[thread.top.extra];
  if (static_cast<std::uint8_t>(property.literal[thread.top.count]) != byte) return;
  Frame next = thread.top;
  if (++next.count < property.literal.size()) return emit(thread.below, next);
  Frame object = thread.below->frame;
  object.extra = property.value;
  object.number = thread.top.extra + 1;
  ++object.smaller;
  count_property(grammar.objects[thread.top.shape], object);
  emit(thread.below->below, object);
}

void GrammarMachine::Step::object(const Thread& thread) {
  Frame next = thread.top;
  const bool is_blank = byte == ' ' || byte == '\n';
  switch (thread.top.phase) {
    case kAfterKey:
      if (byte != ':') return;
      next.phase = kAfterColon;
      return emit(thread.below, next);
    case kAfterColon: {
      if (byte == ' ' && next.small == 0) {
        next.small = 1;
        return emit(thread.below, next);
      }
      const GrammarNode child = next.extra;
      next.phase = kAfterValue;
      next.small = 0;
      next.extra = 0;
      return value(child, arena.push(thread.below, next));
    }
    case kAfterValue:
      if (byte == '}' && can_close(thread)) return end_value(thread.below);
      if (is_blank && can_close(thread) && take_blank(next, byte)) return emit(thread.below, next);
      if (byte != ',' || next.small != 0 || !can_add_property(thread)) return;
      next.phase = kAfterComma;
      return emit(thread.below, next);
    default:
      if (is_blank) {
        if (take_blank(next, byte)) emit(thread.below, next);
        return;
      }
      if (byte == '}' && next.phase == kOpened && can_close(thread)) return end_value(thread.below);
      if (byte == '"' && can_add_property(thread)) keys(thread);
      return;
  }
}

// The first byte of a value.
void GrammarMachine::Step::value(GrammarNode node, const GrammarStack* below) {
  const std::uint32_t depth = depth_of(below);
  for (const ShapeIndex index : grammar.nodes[node].shapes) {
    const Grammar::Shape& shape = grammar.shapes[index];
    if (shape.height + depth > kMaxNesting) continue;
    Frame frame;
    frame.shape = shape.index;
    switch (shape.kind) {
      case ShapeKind::kLiterals:
        frame.place = Place::kLiteral;
        frame.extra = ByteTrie::kRoot;
        literal({below, frame});
        break;
      case ShapeKind::kNumber:
        frame.place = Place::kNumber;
        number({below, frame});
        break;
      case ShapeKind::kString:
        frame.place = Place::kString;
        frame.extra = grammar.strings[shape.index].pattern == kNoNode ? 0 : ByteDfa::kStart;
        if (byte == '"') emit(below, frame);
        break;
      case ShapeKind::kArray:
        frame.place = Place::kArray;
        if (byte == '[') emit(below, frame);
        break;
      case ShapeKind::kObject:
        frame.place = Place::kObject;
        if (byte == '{' && can_begin_object(grammar.objects[shape.index], depth + 1)) emit(below, frame);
        break;
    }
  }
}

void GrammarMachine::Step::take(const Thread& thread) {
  switch (thread.top.place) {
    case Place::kProgram:
      return program(thread);
    case Place::kLiteral:
      return literal(thread);
    case Place::kNumber:
      return number(thread);
    case Place::kString:
    case Place::kOtherKey:
      return string(thread);
    case Place::kArray:
      return array(thread);
    case Place::kObject:
      return object(thread);
    case Place::kKey:
      return key(thread);
  }
}

// --- the machine -----------------------------------------------------------------------------------------------------

void GrammarMachine::step(std::span<const Thread> threads, std::uint8_t byte, std::vector<Thread>& out,
                          GrammarArena& arena) const {
  out.clear();
  Step step{grammar_, byte, out, arena};
  for (const Thread& thread : threads) step.take(thread);
  // Ways that met again are one.
  if (!step.has_ended_values || out.size() < 2) return;
  for (std::size_t i = 0; i < out.size(); ++i)
    out.erase(std::remove(out.begin() + static_cast<std::ptrdiff_t>(i) + 1, out.end(), Thread(out[i])), out.end());
}

void GrammarMachine::step_token(std::span<const Thread> threads, std::uint32_t token, std::vector<Thread>& out) const {
  out.clear();
  for (const Thread& thread : threads) {
    if (thread.top.place != Place::kProgram) continue;
    for (const Grammar::Edge& edge : grammar_.program[thread.top.shape]) {
      if (edge.kind != Grammar::Edge::Kind::kToken || edge.what != token) continue;
      const Thread next = at_state(edge.next);
      if (std::ranges::find(out, next) == out.end()) out.push_back(next);
    }
  }
}

bool GrammarMachine::may_end(const Thread& thread) const {
  return thread.top.place == Place::kProgram &&
         std::ranges::any_of(grammar_.program[thread.top.shape],
                             [](const Grammar::Edge& edge) { return edge.kind == Grammar::Edge::Kind::kEnd; });
}

std::optional<GrammarMachine::PlainPlace> GrammarMachine::plain_place(const Thread& thread) const {
  const Frame& top = thread.top;
  if (top.phase != kInside) return std::nullopt;
  if (top.place == Place::kOtherKey) return PlainPlace{};  // which name it is not is asked at its end
  if (top.place != Place::kString) return std::nullopt;
  const StringShape& shape = grammar_.strings[top.shape];
  PlainPlace place;
  if (shape.max_length != kNoLimit) place.room = shape.max_length - top.count;
  if (shape.pattern != kNoNode) {
    place.pattern = &grammar_.patterns[shape.pattern];
    place.state = top.extra;
  }
  return place;
}

std::string GrammarMachine::key(std::span<const Thread> threads, std::size_t longest) const {
  const auto near = [&](std::uint32_t distance) { return std::min(distance, static_cast<std::uint32_t>(longest) + 1); };
  std::string out;
  const auto write = [&](const Frame& frame) {
    Frame seen = frame;
    // Counters that are further from their limits than a token can bring them are equal.
    std::uint32_t least = 0;
    if (frame.place == Place::kString) {
      const StringShape& shape = grammar_.strings[frame.shape];
      least = shape.min_length > frame.count ? near(shape.min_length - frame.count) : 0;
      seen.count = shape.max_length == kNoLimit ? 0 : near(shape.max_length - frame.count);
    } else if (frame.place == Place::kArray) {
      const ArrayShape& shape = grammar_.arrays[frame.shape];
      const std::size_t prefix_left = shape.prefix.size() > frame.count ? shape.prefix.size() - frame.count : 0;
      least = shape.min > frame.count ? near(shape.min - frame.count) : 0;
      seen.count = shape.max == kNoLimit ? 0 : near(shape.max - frame.count);
      seen.number = prefix_left;
    }
    const std::array<std::uint32_t, 7> numbers = {
        static_cast<std::uint32_t>(seen.place) | static_cast<std::uint32_t>(seen.phase) << 8 |
            static_cast<std::uint32_t>(seen.small) << 16 | static_cast<std::uint32_t>(seen.smaller) << 24,
        seen.shape,
        seen.count,
        seen.extra,
        static_cast<std::uint32_t>(seen.number),
        static_cast<std::uint32_t>(seen.number >> 32),
        least};
    out.append(reinterpret_cast<const char*>(numbers.data()), sizeof numbers);
  };
  for (const Thread& thread : threads) {
    write(thread.top);
    for (const GrammarStack* at = thread.below; at != nullptr; at = at->below) write(at->frame);
    out += '|';
  }
  return out;
}

std::vector<Thread> GrammarMachine::moved(std::span<const Thread> threads, GrammarArena& into) {
  std::map<const GrammarStack*, const GrammarStack*> copies;
  const auto copy = [&](const GrammarStack* stack) -> const GrammarStack* {
    std::vector<const GrammarStack*> path;
    for (; stack != nullptr && !copies.contains(stack); stack = stack->below) path.push_back(stack);
    const GrammarStack* below = stack == nullptr ? nullptr : copies.at(stack);
    for (auto at = path.rbegin(); at != path.rend(); ++at) copies[*at] = below = into.push(below, (*at)->frame);
    return below;
  };
  std::vector<Thread> out;
  for (const Thread& thread : threads) out.push_back({copy(thread.below), thread.top});
  return out;
}

}  // namespace consort::model
