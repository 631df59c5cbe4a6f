// Fuzzes the file of API keys: what is accepted is written and read again as the same.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <string_view>

#include "cli/http/api_keys.hpp"
#include "runtime/check.hpp"

using namespace consort::cli;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto keys = parse_api_keys({reinterpret_cast<const char*>(data), size}, "keys");
  if (!keys.ok()) {
    CONSORT_CHECK(keys.error().text.starts_with("keys:"));
    return 0;
  }
  CONSORT_CHECK(keys->size() <= kMaxApiKeys);
  const auto again = parse_api_keys(format_api_keys(*keys), "keys");
  CONSORT_CHECK(again.ok() && again->size() == keys->size());
  for (std::size_t i = 0; i < keys->size(); ++i) {
    CONSORT_CHECK((*again)[i].name == (*keys)[i].name && (*again)[i].hash == (*keys)[i].hash);
    CONSORT_CHECK((*again)[i].created == (*keys)[i].created && (*again)[i].limits == (*keys)[i].limits);
  }
  return 0;
}
