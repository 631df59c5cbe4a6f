// Regular expressions of JSON Schema as byte automata over UTF-8.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "model/grammar/byte_dfa.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

inline constexpr std::size_t kMaxPatternBytes = 4096;
inline constexpr std::uint32_t kMaxPatternRepeat = 512;  // of {n,m}: each repetition is written out
inline constexpr std::size_t kMaxPatternNodes = 20'000;  // of the automaton before it is made deterministic
inline constexpr int kMaxPatternDepth = 64;              // of groups

// A pattern matches anywhere in the text where ^ and $ don't hold it. Read as ECMA-262 does, and where engines differ
// only what all of them match: \d, \w, \s, \D and \W are ASCII, \S is no space of any engine. Refused in words: anchors
// inside of a pattern, \b, look-around, backreferences, \p.
runtime::Outcome<ByteDfa> compile_pattern(std::string_view pattern);

// The texts of a `format` that is known here: date, time, date-time, duration, uuid, email, hostname, ipv4, ipv6.
// Empty for another one.
std::string_view pattern_of_format(std::string_view format);

}  // namespace consort::model
