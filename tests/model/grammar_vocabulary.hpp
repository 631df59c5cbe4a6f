// A vocabulary for tests of grammars: all bytes, pieces of JSON that lie across its tokens, and the formats' markers.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <boost/json.hpp>
#include <filesystem>
#include <fstream>
#include <string>

#include "model/text/byte_alphabet.hpp"
#include "model/text/tokenizer.hpp"
#include "support/test.hpp"

namespace consort::tests {

inline constexpr std::int32_t kEndId = 1;

// Id 0 begins a sentence, 1 ends it; markers from 2, bytes from 32, longer tokens from 288.
inline model::Tokenizer grammar_tokenizer() {
  namespace json = boost::json;
  json::object vocab;
  json::array added;
  int id = 0;
  for (const char* text : {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>",
                           "<think>", "</think>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
                           "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>", "<｜tool▁outputs▁begin｜>",
                           "<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"}) {
    added.push_back(json::object{{"id", id}, {"content", text}, {"special", id < 2}});
    vocab[text] = id++;
  }
  const auto add = [&](const std::string& bytes) { vocab[model::symbols_of_bytes(bytes)] = id++; };
  while (id < 32) add("spare " + std::to_string(id));
  for (int byte = 0; byte < 256; ++byte) add(std::string(1, static_cast<char>(byte)));
  for (const char* text :
       {"{\"",  "\":",      "\": ",        "\",",          "\", \"", "\"}", "}}",   "]]",   "]}",
        "},{",  "true",     "false",       "null",         "12",     "00",  "-1",   ".5",   "e+",
        "é",    "漢",       "\xF0\x9F",    "\x9A\x80",     "\\u",    "\\n", "00e9", "D83D", "\\uDE80",
        "name", "name\"",   "value\":",    "children\":[", "more",   "red", "ab",   "\n  ", "    ",
        "\n\n", "function", "\n```json\n", "\n```",        "``` ",   "{}",  "[]",   "a\"",  "<think>x"}) {
    add(text);
  }
  const json::object file{{"added_tokens", added},
                          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}},
                          {"decoder", {{"type", "ByteLevel"}}},
                          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", json::array()}}}};
  // Only a folder says what ends a sentence.
  const auto folder = std::filesystem::temp_directory_path() / ("consort_grammar_" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "tokenizer.json") << json::serialize(file);
  std::ofstream(folder / "tokenizer_config.json") << R"({"eos_token":"<｜end▁of▁sentence｜>"})";
  auto made = model::Tokenizer::from_directory(folder);
  std::filesystem::remove_all(folder);
  REQUIRE_MESSAGE(made.ok(), made.error().text);
  return *made;
}

}  // namespace consort::tests
