// Fuzzes config.json and the numeric plan's JSON: refused in words, or accepted without a crash. An accepted plan reads
// back from what it writes.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <string_view>

#include "model/config.hpp"
#include "model/part.hpp"
#include "runtime/check.hpp"

using namespace consort::model;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto config = parse_config(input, "fuzzed");
  if (config.ok()) {
    CONSORT_CHECK(config->qk_head_dim() > 0 && config->latent_width() > 0);
  } else {
    CONSORT_CHECK(!config.error().text.empty());
  }
  const auto plan = plan_from_json(input, "fuzzed");
  if (plan.ok()) {
    const auto again = plan_from_json(to_json(*plan), "written");
    CONSORT_CHECK(again.ok());
    CONSORT_CHECK(*again == *plan);
  }
  return 0;
}
