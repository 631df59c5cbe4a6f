// TokenPrinter: a generation as it comes, as text for people or as JSON lines for programs.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "model/text/tokenizer.hpp"

namespace consort::cli {

// What happened on the way of a request through a cluster.
struct Journey {
  std::uint32_t decoder_moves = 0;  // prefilled again on another Decoder
  std::uint32_t waits = 0;          // steps that left it out because a part was nowhere to be had
};

class TokenPrinter {
 public:
  // Without a tokenizer the text is the ids.
  TokenPrinter(std::optional<model::Tokenizer> tokenizer, bool json, std::string_view shown_first);

  void token(std::int32_t id, float logprob, std::uint32_t logits_crc);
  // reason: "stop", "length", ...; text says more where it was not one of these two. Prints the speed to standard
  // error.
  void end(std::string_view reason, std::string_view text, std::optional<Journey> journey = std::nullopt);
  int count() const { return count_; }

 private:
  std::optional<model::Tokenizer> tokenizer_;
  std::optional<model::StreamDecoder> decoder_;
  const bool json_;
  int count_ = 0;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point first_;
};

}  // namespace consort::cli
