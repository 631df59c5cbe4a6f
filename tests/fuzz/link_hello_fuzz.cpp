// The hello and verdict decoders take any bytes, and what they accept is what they would write.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <span>

#include "runtime/check.hpp"
#include "transport/link_hello.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace t = consort::transport;
  const auto bytes = std::as_bytes(std::span(data, size));
  t::Hello early;
  if (const auto hello = t::decode_hello(bytes, &early); hello.ok()) {
    const auto again = t::encode_hello(*hello);
    CONSORT_CHECK(std::equal(again.begin(), again.end(), bytes.begin(), bytes.end()));
  }
  if (const auto verdict = t::decode_verdict(bytes); verdict.ok()) {
    const auto twin = t::decode_verdict(t::encode_verdict(*verdict));
    CONSORT_CHECK(twin.ok() && twin->connection == verdict->connection && twin->code == verdict->code);
    CONSORT_CHECK(!t::name(verdict->code).empty());
  }
  return 0;
}
