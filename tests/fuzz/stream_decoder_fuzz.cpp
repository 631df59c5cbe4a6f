// Fuzzes streaming decode: every input byte is a token of that byte. What is emitted is UTF-8 at every step, holds back
// at most three bytes, and does not depend on where the stream is cut.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <string>
#include <vector>

#include "model/text/tokenizer.hpp"
#include "runtime/check.hpp"
#include "byte_tokenizer.hpp"

using namespace consort::model;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Tokenizer tokenizer = consort::fuzz::byte_tokenizer();
  const std::vector<std::int32_t> ids(data, data + size);
  StreamDecoder stream(tokenizer);
  std::string streamed;
  for (const std::int32_t id : ids) {
    const std::string text = stream.add(id);
    CONSORT_CHECK(first_invalid_utf8(text) == std::string::npos);
    streamed += text;
  }
  streamed += stream.finish();
  CONSORT_CHECK(first_invalid_utf8(streamed) == std::string::npos);
  CONSORT_CHECK(streamed == tokenizer.decode(ids));

  std::string whole;
  Utf8Repair repair;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  repair.add(bytes, whole);
  repair.finish(whole);
  CONSORT_CHECK(whole == streamed);
  if (first_invalid_utf8(bytes) == std::string::npos) CONSORT_CHECK(streamed == bytes);
  return 0;
}
