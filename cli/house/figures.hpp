// What a node's actors have counted, as the figures that it tells to whoever looks.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "actors/experts/expert_group.hpp"
#include "actors/experts/router.hpp"
#include "actors/serving/batcher.hpp"
#include "actors/serving/decoder.hpp"
#include "cluster/node_figures.hpp"

namespace consort::cli {

void add_figures(cluster::NodeFigures& figures, const actors::ExpertGroupCounters& experts);
void add_figures(cluster::NodeFigures& figures, const actors::DecoderCounters& decoder,
                 const actors::RouterCounters& router, std::uint64_t page_count);
void add_figures(cluster::NodeFigures& figures, const actors::BatcherCounters& batcher);

}  // namespace consort::cli
