// Grammar: what a JSON value may look like, in shapes that a machine follows byte by byte; and the program around it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/grammar/byte_dfa.hpp"

namespace consort::model {

using GrammarNode = std::uint32_t;  // index of Grammar::nodes
using ShapeIndex = std::uint32_t;
inline constexpr std::uint32_t kNoNode = ~std::uint32_t{0};
inline constexpr std::uint32_t kNoLimit = ~std::uint32_t{0};

// Limits, so that a schema from outside costs what it may.
inline constexpr std::size_t kMaxGrammarNodes = 8192;  // sub-schemas, together with what references multiply
inline constexpr std::size_t kMaxProperties = 128;     // of one object: each is a way on at once where all are optional
inline constexpr std::size_t kMaxEnumBytes = 64 << 10;    // of one enum, as JSON
inline constexpr std::uint32_t kMaxNesting = 64;          // of the arrays and objects that are written
inline constexpr std::uint32_t kMaxRegexStates = 16'384;  // of all patterns together
inline constexpr std::uint32_t kMaxCount = 1 << 20;       // of minItems, minLength and the like

enum class ShapeKind : std::uint8_t { kLiterals, kNumber, kString, kArray, kObject };

// One of these texts.
struct LiteralsShape {
  ByteTrie texts;
  std::vector<std::string> list;  // the same, sorted
};
// Without bounds: any of JSON's numbers of a bounded length. With: whole multiples of 10^-fraction_digits from low to
// high, counted in these; decimals without exponent.
struct NumberShape {
  static constexpr std::uint32_t kMaxDigits = 15;  // all decimals that long are different as F64
  static constexpr std::uint32_t kMaxExponentDigits = 2;
  bool is_integer = false;
  bool is_bounded = false;
  std::uint32_t fraction_digits = 0;
  std::int64_t low = 0, high = 0;
  std::int64_t multiple_of = 1;
};
struct StringShape {
  std::uint32_t min_length = 0, max_length = kNoLimit;  // characters; both counted in the pattern where there is one
  std::uint32_t pattern = kNoNode;                      // index of Grammar::patterns
};
struct ArrayShape {
  std::vector<GrammarNode> prefix;
  GrammarNode items = kNoNode;  // of those after the prefix; kNoNode: none
  std::uint32_t min = 0, max = kNoLimit;
  GrammarNode child(std::uint32_t index) const { return index < prefix.size() ? prefix[index] : items; }
};
// Properties come in the schema's order, additional ones after them.
struct ObjectShape {
  struct Property {
    std::string name;
    std::string literal;  // as it is written, without the first quote
    GrammarNode value = kNoNode;
    bool required = false;
  };
  std::vector<Property> properties;
  ByteTrie names;
  GrammarNode additional = kNoNode;
  std::uint32_t min = 0, max = kNoLimit;
  std::uint32_t required_after(std::size_t first) const;  // required properties from there on
};

struct Grammar {
  static constexpr std::uint32_t kNeverEnds = ~std::uint32_t{0};
  struct Shape {
    ShapeKind kind = ShapeKind::kLiterals;
    std::uint32_t index = 0;            // into the vector of its kind
    std::uint32_t height = kNeverEnds;  // arrays and objects that it needs at least, one in another
  };
  struct Node {
    std::vector<ShapeIndex> shapes;  // any of them
    std::uint32_t height = kNeverEnds;
  };
  // What comes around the value: literal bytes, markers told by their ids, the value of a node, the end.
  struct Edge {
    enum class Kind : std::uint8_t { kByte, kToken, kValue, kEnd } kind = Kind::kByte;
    std::uint32_t what = 0;  // byte, token id, node
    std::uint32_t next = 0;
  };

  std::vector<Node> nodes;
  std::vector<Shape> shapes;
  std::vector<LiteralsShape> literals;
  std::vector<NumberShape> numbers;
  std::vector<StringShape> strings;
  std::vector<ArrayShape> arrays;
  std::vector<ObjectShape> objects;
  std::vector<ByteDfa> patterns;
  std::vector<std::vector<Edge>> program;
  std::uint32_t start = 0;                // state of the program
  std::uint32_t start_after_thought = 0;  // line feeds come between
};

}  // namespace consort::model
