// One truth: what a cluster generates equals, bit for bit, what a plain loop in one process generates.
#include "actors/serving_world.hpp"

using namespace consort;
using namespace consort::tests;

namespace {

const std::vector<WorldNode> kOneNode = {{"desk", true, true, true}};
const std::vector<WorldNode> kThreeNodes = {
    {"desk", true, true, true}, {"attic", false, true, true}, {"garage", false, false, true}};

}  // namespace

TEST_CASE("one node generates what a plain loop generates, whatever the chunks and micro-batches") {
  const TinyModel model;
  const auto request = request_of(prompt_of(37));
  const auto expected = model.generate(request);
  for (const int micro_batches : {1, 2, 3}) {
    for (const std::uint32_t chunk : {1u, 5u, 16u, 128u}) {
      CAPTURE(micro_batches);
      CAPTURE(chunk);
      ServingOptions options;
      options.decoder = {micro_batches, 4};
      options.batcher.chunk_tokens = chunk;
      ServingWorld cluster(model, kOneNode, options);
      const auto stream = cluster.generate(request);
      cluster.run([&] { return stream->ended(); });
      check_equal(*stream, expected);
      cluster.check_rest();
    }
  }
}

TEST_CASE("three nodes generate what a plain loop generates, with whole and with cut experts") {
  for (const std::int64_t ranges : {1, 2}) {
    const TinyModel model(ranges);
    std::vector<actors::GenerationRequest> requests;
    for (std::uint32_t i = 0; i < 5; ++i) {
      requests.push_back(request_of(prompt_of(3 + 13 * i, i)));
      requests.back().sampling.seed = i;
    }
    for (const std::uint32_t replicas : {1u, 2u}) {
      CAPTURE(ranges);
      CAPTURE(replicas);
      ServingOptions options;
      options.replicas = replicas;
      options.batcher.chunk_tokens = 16;
      ServingWorld cluster(model, kThreeNodes, options);
      std::vector<std::shared_ptr<ClientStream>> streams;
      for (const auto& request : requests) streams.push_back(cluster.generate(request));
      cluster.run([&] { return std::ranges::all_of(streams, [](const auto& stream) { return stream->ended(); }); });
      for (std::size_t i = 0; i < requests.size(); ++i) check_equal(*streams[i], model.generate(requests[i]));
      CHECK(cluster.router(0).dispatches > 0);
      CHECK(cluster.router(1).dispatches > 0);  // requests are spread over the Decoders
      cluster.check_rest();
    }
  }
}
