// What the page is told of the service and of the running cluster, as JSON. Pure. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "cluster/cluster_watch.hpp"
#include "runtime/metrics.hpp"

namespace consort::cli {

struct About {
  std::string model;
  std::string version;
  std::uint32_t context_tokens = 0;
  bool needs_key = false;
  bool has_thinking_switch = false;
};
std::string about_json(const About& about);

// Counts since the nodes' lives began: whoever reads it takes differences. `own` is of the Gateway's process.
std::string live_json(const cluster::ClusterPicture& picture, const runtime::MetricsSnapshot& own);

}  // namespace consort::cli
