#include "cli/house/figures.hpp"

namespace consort::cli {

namespace figure = cluster::figure;

namespace {

std::uint64_t ns(runtime::Duration time) { return static_cast<std::uint64_t>(time.count()); }

// What only a Batcher with a prefix cache counts.
template <class Counters>
void add_cache(cluster::NodeFigures& figures, const Counters& batcher) {
  if constexpr (requires { batcher.cache_queries + batcher.cache_hits + batcher.pages_cached + batcher.preemptions; }) {
    figures.set(figure::kPagesCached, batcher.pages_cached);
    figures.set(figure::kPrefixQueries, batcher.cache_queries);
    figures.set(figure::kPrefixHits, batcher.cache_hits);
    figures.set(figure::kPreemptions, batcher.preemptions);
  }
}

}  // namespace

void add_figures(cluster::NodeFigures& figures, const actors::ExpertGroupCounters& experts) {
  figures.set(figure::kComputations, experts.computations);
  figures.set(figure::kPartRows, experts.rows);
  figures.set(figure::kPartBytesRead, experts.weight_bytes);
  figures.set(figure::kPartBusyNs, experts.busy_ns);
}

void add_figures(cluster::NodeFigures& figures, const actors::DecoderCounters& decoder,
                 const actors::RouterCounters& router, std::uint64_t page_count) {
  runtime::Duration waited{0};
  for (const auto& [node, time] : decoder.wait) waited += time;
  figures.set(figure::kSteps, decoder.steps);
  figures.set(figure::kStepRows, decoder.rows);
  figures.set(figure::kTokens, decoder.tokens);
  figures.set(figure::kStepNs, ns(decoder.step_time));
  figures.set(figure::kAttentionNs, ns(decoder.attention));
  figures.set(figure::kSharedNs, ns(decoder.shared));
  figures.set(figure::kCombineNs, ns(decoder.combine));
  figures.set(figure::kHeadNs, ns(decoder.head));
  figures.set(figure::kDispatchNs, ns(decoder.dispatch));
  figures.set(figure::kExpertsNs, ns(decoder.experts));
  figures.set(figure::kWaitNs, ns(waited));
  figures.set(figure::kDispatches, router.dispatches);
  figures.set(figure::kReplays, router.replays);
  figures.set(figure::kHedges, router.hedges);
  figures.set(figure::kLateAnswers, router.late_answers);
  figures.set(figure::kWaitingRows, router.waiting_rows);
  figures.set(figure::kPagesTotal, page_count);
  for (const auto& [peer, edge] : router.edges) {
    const auto wait = decoder.wait.find(peer);
    figures.edges.push_back({peer, edge.dispatches, edge.answers, edge.sent_bytes, edge.round_trip_ns,
                             wait == decoder.wait.end() ? 0 : ns(wait->second)});
  }
  for (std::size_t layer = 0; layer < router.expert_rows.size(); ++layer) {
    const auto& rows = router.expert_rows[layer];
    if (!rows.empty()) figures.loads.push_back({static_cast<std::uint32_t>(layer), rows});
  }
}

void add_figures(cluster::NodeFigures& figures, const actors::BatcherCounters& batcher) {
  figures.set(figure::kAccepted, batcher.accepted);
  figures.set(figure::kEnded, batcher.ended);
  figures.set(figure::kRunning, batcher.running);
  figures.set(figure::kQueued, batcher.queued);
  figures.set(figure::kPagesUsed, batcher.pages_used);
  figures.set(figure::kDecoderMoves, batcher.decoder_moves);
  add_cache(figures, batcher);
}

}  // namespace consort::cli
