// A metrics snapshot in Prometheus' text format, version 0.0.4. Pure.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "cluster/cluster_watch.hpp"
#include "runtime/metrics.hpp"

namespace consort::cli {

// Every series gets the label model_name. Names that end in _total are counters, other numbers gauges; spreads are in
// nanoseconds and come out as histograms in seconds. A cell's name may carry labels of its own: a_total{b="c"}.
std::string prometheus_text(const runtime::MetricsSnapshot& snapshot, std::string_view model);
// What a look at the cluster found, per node, edge and expert, as consort:*; and under vLLM's names what means the
// same.
std::string prometheus_text(const cluster::ClusterPicture& picture, std::string_view model);

}  // namespace consort::cli
