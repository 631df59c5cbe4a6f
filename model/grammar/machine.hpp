// GrammarMachine: follows a grammar through bytes. A state is a set of threads, each a stack of what is open.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/grammar/grammar.hpp"

namespace consort::model {

// Where a thread stands in one thing that is open. What the numbers mean depends on the place; see machine.cpp.
struct GrammarFrame {
  enum class Place : std::uint8_t { kProgram, kLiteral, kNumber, kString, kArray, kObject, kKey, kOtherKey };
  Place place = Place::kProgram;
  std::uint8_t phase = 0;
  std::uint8_t small = 0;
  std::uint8_t smaller = 0;
  std::uint32_t shape = 0;  // index in the vector of its kind; for the program its state
  std::uint32_t count = 0;
  std::uint32_t extra = 0;
  std::uint64_t number = 0;
  bool operator==(const GrammarFrame&) const = default;
};

struct GrammarStack {
  const GrammarStack* below = nullptr;
  GrammarFrame frame;       // as it goes on once what is above has ended
  std::uint32_t depth = 0;  // arrays and objects from here down
};

struct GrammarThread {
  const GrammarStack* below = nullptr;
  GrammarFrame top;
  bool operator==(const GrammarThread&) const = default;
};

// Where stacks live while they are looked at; they end with it.
class GrammarArena {
 public:
  const GrammarStack* push(const GrammarStack* below, const GrammarFrame& frame);
  void clear() { entries_.clear(); }

 private:
  std::deque<GrammarStack> entries_;
};

class GrammarMachine {
 public:
  // More ways on at once than this are cut: what is left is still JSON and valid.
  static constexpr std::size_t kMaxThreads = 256;

  explicit GrammarMachine(const Grammar& grammar) : grammar_(grammar) {}
  const Grammar& grammar() const { return grammar_; }

  static GrammarThread at_state(std::uint32_t state) {
    GrammarThread thread;
    thread.top.shape = state;
    return thread;
  }
  // All ways on by one byte; none: it may not come. `out` is overwritten.
  void step(std::span<const GrammarThread> threads, std::uint8_t byte, std::vector<GrammarThread>& out,
            GrammarArena& arena) const;
  // The same for a marker.
  void step_token(std::span<const GrammarThread> threads, std::uint32_t token, std::vector<GrammarThread>& out) const;
  bool may_end(const GrammarThread& thread) const;

  // Inside of a string, between characters: what plain tokens (whole characters, no quote, no backslash) may come.
  struct PlainPlace {
    std::uint32_t room = kNoLimit;     // characters
    const ByteDfa* pattern = nullptr;  // that they must follow, where there is one
    std::uint32_t state = 0;           // of it
  };
  std::optional<PlainPlace> plain_place(const GrammarThread& thread) const;
  // States of one key allow the same tokens, of at most `longest` bytes.
  std::string key(std::span<const GrammarThread> threads, std::size_t longest) const;
  // The same threads with their stacks in another arena.
  static std::vector<GrammarThread> moved(std::span<const GrammarThread> threads, GrammarArena& into);

 private:
  struct Step;
  const Grammar& grammar_;
};

}  // namespace consort::model
