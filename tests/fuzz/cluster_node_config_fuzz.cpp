// Fuzzes the reader of cluster files: a config or one error that names the file.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <string_view>

#include "cluster/node_config.hpp"
#include "runtime/check.hpp"

using namespace consort::cluster;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = parse_cluster_config(text, "fuzz.toml", [](const std::string&) { return true; });
  if (config.ok()) {
    CONSORT_CHECK(!config->nodes.empty() && config->coordinator_index() < config->nodes.size());
  } else {
    CONSORT_CHECK(config.error().text.rfind("fuzz.toml:", 0) == 0, config.error().text);
  }
  return 0;
}
