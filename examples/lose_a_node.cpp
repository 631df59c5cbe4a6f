// A cluster in virtual time loses a node in the middle of a token, and says the same tokens, bit for bit.
//
//   example_lose_a_node [CLUSTER.toml [PROCESS]]
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <string>

#include "cli/simulate/fault_plan.hpp"
#include "cli/simulate/sim_cluster.hpp"

using namespace consort;

namespace {

constexpr std::uint64_t kFaultEvent =
    400;  // a handler turn, a frame, a timer or a piece of work; the middle of the run

struct Story {
  std::vector<actors::GeneratedToken> tokens;
  std::uint64_t replays = 0;
  std::uint64_t trace_hash = 0;
  bool complete = false;
};

runtime::Outcome<Story> tell(const cluster::ClusterConfig& config, const cli::SimModel& model,
                             const std::string& faults) {
  cli::SimClusterOptions options;
  options.config = config;
  options.seed = 42;  // everything that is left to chance comes from it
  cli::SimCluster cluster(std::move(options), model);
  CONSORT_RETURN_IF_ERROR(cluster.bring_up());
  CONSORT_TRY(const cli::FaultPlan plan, cli::FaultPlan::parse(faults, cluster.processes()));
  plan.lay(cluster);

  actors::GenerationRequest request;
  request.prompt = {3, 1, 4, 1, 5, 9, 2, 6};
  request.sampling.temperature = 0;
  request.max_new_tokens = 12;
  const std::size_t number = cluster.start(std::move(request));
  CONSORT_RETURN_IF_ERROR(cluster.run_to_end());

  Story story;
  story.tokens = cluster.generation(number).tokens;
  story.complete = cluster.generation(number).end->reason == actors::EndReason::kLength;
  story.trace_hash = cluster.world().trace_hash();
  for (const auto& place : cluster.processes().workers) {
    const cli::Worker* worker = cluster.worker(place.name);
    if (worker != nullptr) story.replays += worker->router_counters().replays;
  }
  return story;
}

void print(const char* title, const Story& story) {
  std::printf("%s\n ", title);
  for (const auto& token : story.tokens) std::printf(" %u:%08x", token.id, token.logits_crc);
  std::printf("\n  %lu dispatches replayed, trace hash %016lx\n", story.replays, story.trace_hash);
}

int fail(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string file = argc > 1 ? argv[1] : "examples/clusters/three-nodes.toml";
  const std::string process = argc > 2 ? argv[2] : "garage";
  const auto config = cluster::read_cluster_config(file);
  if (!config.ok()) return fail(config.error().text);
  const auto model = cli::SimModel::load(config->model);
  if (!model.ok()) return fail(model.error().text);

  const auto calm = tell(*config, *model, "");
  if (!calm.ok()) return fail(calm.error().text);
  print("nothing happens (token:logits_crc)", *calm);
  const auto fault = tell(*config, *model, "crash " + process + " at " + std::to_string(kFaultEvent));
  if (!fault.ok()) return fail(fault.error().text);
  print((process + " dies in event " + std::to_string(kFaultEvent)).c_str(), *fault);

  const bool same = calm->complete && fault->complete && calm->tokens == fault->tokens;
  std::printf("%s\n", same ? "the same tokens with the same bits" : "THE TOKENS DIFFER");
  return same ? 0 : 1;
}
