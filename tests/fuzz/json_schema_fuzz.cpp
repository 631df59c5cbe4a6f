// Fuzzes the compiler of JSON Schemas and the machine behind it. Input: a schema, a NUL, bytes that choose a way
// through what it compiles to. A compiled grammar never gets stuck, and what it lets be written is JSON.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/grammar/machine.hpp"
#include "model/grammar/schema_compiler.hpp"
#include "model/json_text.hpp"
#include "runtime/check.hpp"

using namespace consort::model;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t end = std::min(input.find('\0'), input.size());
  const auto grammar = compile_json_schema(input.substr(0, end));
  if (!grammar.ok()) {
    CONSORT_CHECK(!grammar.error().text.empty());
    return 0;
  }
  const GrammarMachine machine(*grammar);
  GrammarArena arena;
  std::vector<GrammarThread> now{GrammarMachine::at_state(grammar->start)}, next;
  std::string written;
  const auto may_end = [&] { return std::ranges::any_of(now, [&](const auto& t) { return machine.may_end(t); }); };
  for (const char choice : input.substr(std::min(end + 1, size))) {
    // The first byte that may come, counted from the chosen one.
    bool found = false;
    for (int step = 0; step < 256 && !found; ++step) {
      const auto byte = static_cast<std::uint8_t>(static_cast<std::uint8_t>(choice) + step);
      machine.step(now, byte, next, arena);
      found = !next.empty();
      if (found) written += static_cast<char>(byte);
    }
    if (!found) break;
    now = GrammarMachine::moved(next, arena);
    CONSORT_CHECK(!machine.key(now, 128).empty());
  }
  bool goes_on = may_end();
  for (int byte = 0; byte < 256 && !goes_on; ++byte) {
    machine.step(now, static_cast<std::uint8_t>(byte), next, arena);
    goes_on = !next.empty();
  }
  CONSORT_CHECK(goes_on, written);
  // Keys that are no property's may repeat; else it is JSON.
  if (may_end()) {
    const auto checked = check_json(written, "what was written", kMaxNesting + 1);
    CONSORT_CHECK(checked.ok() || checked.error().text.find("twice") != std::string::npos, written);
  }
  return 0;
}
