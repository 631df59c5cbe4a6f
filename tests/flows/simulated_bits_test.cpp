// One process = simulator, in bits: the same job through LocalGeneration and through a simulated cluster.
#include "model/local_generation.hpp"
#include "support/sim_scenario.hpp"
#include "support/test.hpp"

namespace consort::tests {
namespace {

struct Tokens {
  std::vector<std::uint32_t> ids;
  std::vector<std::uint32_t> crcs;
  bool operator==(const Tokens&) const = default;
};

Tokens in_one_process(const std::string& directory, std::optional<model::NumericPlan> plan,
                      const actors::GenerationRequest& request, std::int64_t chunk_tokens) {
  const auto local = model::LocalModel::load(directory, std::move(plan)).value();
  runtime::InlineWorkers workers;
  model::LocalGeneration generation(local, 8, workers);
  const std::uint64_t sequence = generation.open();
  const std::vector<std::int32_t> prompt(request.prompt.begin(), request.prompt.end());
  auto logits = generation.prefill(sequence, prompt, chunk_tokens).value();
  Tokens out;
  for (std::uint32_t i = 0; i < request.max_new_tokens; ++i) {
    const auto view = logits.view();
    const std::span<const float> row(view.f32(view.rows() - 1), static_cast<std::size_t>(view.cols()));
    const std::int32_t token = model::greedy_token(row);
    out.ids.push_back(static_cast<std::uint32_t>(token));
    out.crcs.push_back(model::logits_crc(row));
    const model::LocalGeneration::Rows next{sequence, {token}, 1};
    logits = generation.step(std::span(&next, 1)).value();
  }
  return out;
}

std::vector<Tokens> in_the_simulator(cli::SimClusterOptions options, std::vector<actors::GenerationRequest> requests,
                                     std::size_t* decoders_used = nullptr) {
  auto model = cli::SimModel::load(options.config.model).value();
  cli::SimCluster cluster(std::move(options), std::move(model));
  const auto up = cluster.bring_up();
  REQUIRE_MESSAGE(up.ok(), (up.ok() ? "" : up.error().text));
  for (auto& request : requests) cluster.start(std::move(request));
  const auto end = cluster.run_to_end();
  REQUIRE_MESSAGE(end.ok(), (end.ok() ? "" : end.error().text));
  std::vector<Tokens> all;
  for (std::size_t g = 0; g < cluster.generation_count(); ++g) {
    REQUIRE(cluster.generation(g).end->reason == actors::EndReason::kLength);
    Tokens& tokens = all.emplace_back();
    for (const auto& token : cluster.generation(g).tokens) {
      tokens.ids.push_back(token.id);
      tokens.crcs.push_back(token.logits_crc);
    }
  }
  if (decoders_used != nullptr) {
    for (const char* name : {"desk", "attic"})
      *decoders_used += cluster.worker(name)->router_counters().dispatches > 20 ? 1 : 0;
  }
  return all;
}

}  // namespace

// The prompts cross a page's end (64) and a chunk's (128), so that the cluster prefills in two steps where it wants.
TEST_CASE("one process and the simulated cluster give equal bits, whole and cut, by any chunk and micro-batches") {
  const std::vector<actors::GenerationRequest> requests{greedy_request(150, 5, 6), greedy_request(33, 6, 6)};
  for (const int cut : {1, 2}) {
    CAPTURE(cut);
    auto options = small_cluster("bits-" + std::to_string(cut),
                                 "columns = " + std::to_string(cut) + "\n[batcher]\nchunk_tokens = 128");
    const std::string directory = options.config.model;
    const auto config = model::Checkpoint::open(directory).value()->config();
    const auto plan = model::cut_plan(config, cut).value();
    std::vector<Tokens> expected;
    for (const auto& request : requests) expected.push_back(in_one_process(directory, plan, request, 128));
    CHECK(in_one_process(directory, plan, requests[0], 7) == expected[0]);
    for (const int micro_batches : {1, 2}) {
      CAPTURE(micro_batches);
      options.micro_batches = micro_batches;
      options.seed = static_cast<std::uint64_t>(10 * cut + micro_batches);
      std::size_t decoders_used = 0;
      CHECK(in_the_simulator(options, requests, &decoders_used) == expected);
      CHECK(decoders_used == 2);
    }
  }
}

// Under the whole cluster, with checkers' pages at rest: what runs beside, earlier prompts and lack of pages stay
// unseen.
TEST_CASE("a simulated cluster gives equal bits whatever the batch, the chunks and the cache") {
  std::vector<actors::GenerationRequest> requests;
  for (std::uint32_t i = 0; i < 10; ++i) requests.push_back(greedy_request(i % 2 == 0 ? 150 : 20 + i, i / 4, 20));
  std::vector<Tokens> expected;
  for (const auto& request : requests) expected.push_back(in_one_process(small_checkpoint(), {}, request, 128));
  for (const std::string batcher : {"max_running = 1", "max_running = 3\nchunk_tokens = 8", "prefix_cache = false"}) {
    CAPTURE(batcher);
    CHECK(in_the_simulator(small_cluster("batches", "columns = \"never\"\n[batcher]\n" + batcher), requests) ==
          expected);
  }
}

TEST_CASE("a cut changes the bits, so that the test above can tell") {
  const auto request = greedy_request(33, 6, 3);
  const std::string directory = small_checkpoint();
  const auto config = model::Checkpoint::open(directory).value()->config();
  const auto whole = in_one_process(directory, {}, request, 128);
  CHECK(in_one_process(directory, model::cut_plan(config, 2).value(), request, 128).crcs != whole.crcs);
}

}  // namespace consort::tests
