// Two looks at a cluster, one after the other, as a table for people: what happened between them. Pure.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "cluster/cluster_watch.hpp"

namespace consort::cli {

// Of a node that was not seen in `before`, or in another life, everything since its start counts.
std::string live_table(const cluster::ClusterPicture& before, const cluster::ClusterPicture& now);

}  // namespace consort::cli
