// A status report as a table for people.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>
#include <vector>

#include "cluster/messages.hpp"

namespace consort::cli {

std::vector<std::string_view> role_names(const cluster::NodeRoles& roles);
void print_cluster_table(const cluster::ClusterStatusReport& report);

}  // namespace consort::cli
