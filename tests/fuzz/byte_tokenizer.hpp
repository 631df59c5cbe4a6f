// A tokenizer whose first 256 ids are the bytes, with the markers of all chat formats behind them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "model/text/byte_alphabet.hpp"
#include "model/text/tokenizer.hpp"

namespace consort::fuzz {

inline model::Tokenizer byte_tokenizer() {
  std::string vocab;
  for (int byte = 0; byte < 256; ++byte) {
    std::string symbol = model::symbols_of_bytes(std::string(1, static_cast<char>(byte)));
    if (symbol == "\"" || symbol == "\\") symbol.insert(0, "\\");
    vocab += (byte == 0 ? "\"" : ",\"") + symbol + "\":" + std::to_string(byte);
  }
  std::string added;
  int id = 256;
  for (const char* text : {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>",
                           "<think>", "</think>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
                           "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>", "<｜tool▁outputs▁begin｜>",
                           "<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"}) {
    added +=
        std::string(added.empty() ? "" : ",") + R"({"content":")" + text + R"(","id":)" + std::to_string(id++) + "}";
  }
  auto made = model::Tokenizer::from_json(
      R"({"model":{"type":"BPE","merges":[],"vocab":{)" + vocab + R"(}},"added_tokens":[)" + added +
      R"(],"decoder":{"type":"ByteLevel"},"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true}})");
  return std::move(made).value();
}

}  // namespace consort::fuzz
