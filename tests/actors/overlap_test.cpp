// Two micro-batches in flight: while one waits for its parts, the other computes.
#include "actors/serving_world.hpp"

using namespace consort;
using namespace consort::tests;

namespace {

// A trunk whose experts are all elsewhere. A piece of 64 rows computes for 3.2 ms a layer, as long as the experts'
// round trip: two delays of 1.6 ms, in which the wire and the experts themselves hardly count.
ServingOptions far_experts() {
  ServingOptions options;
  options.model.device.fixed = std::chrono::microseconds(0);
  options.model.device.per_row = std::chrono::microseconds(50);
  options.model.data.latency = std::chrono::microseconds(1600);
  options.model.data.jitter = std::chrono::microseconds(0);
  options.model.data.bytes_per_second = 1e12;
  return options;
}

runtime::Duration prefill_time(const TinyModel& model, int micro_batches, std::uint32_t chunk) {
  ServingOptions options = far_experts();
  options.decoder = {micro_batches, 32};
  options.batcher.chunk_tokens = chunk;
  ServingWorld cluster(model, {{"desk", true, true, false}, {"garage", false, false, true}}, options);
  cluster.process(1).device().set_model({std::chrono::microseconds(0), 1e12, std::chrono::nanoseconds(10)});
  const auto request = request_of(prompt_of(256), 1);
  const runtime::Instant begin = cluster.world.now();
  const auto stream = cluster.generate(request);
  cluster.run([&] { return stream->ended(); });
  check_equal(*stream, model.generate(request));
  return cluster.world.now() - begin;
}

}  // namespace

TEST_CASE("two micro-batches finish a prefill in at most 0.65 of the time of one after the other") {
  const TinyModel model;
  // The same pieces of 64 rows: as steps of their own, or two in flight.
  const auto apart = prefill_time(model, 1, 64);
  const auto together = prefill_time(model, 2, 128);
  const double ratio = std::chrono::duration<double>(together).count() / std::chrono::duration<double>(apart).count();
  MESSAGE("two in flight take " << ratio << " of the time of one after the other");
  CHECK(ratio <= 0.65);
}

TEST_CASE("the trace shows one micro-batch computing while the other waits") {
  const TinyModel model;
  ServingOptions options = far_experts();
  ServingWorld cluster(model, {{"desk", true, true, false}, {"garage", false, false, true}}, options);
  const auto stream = cluster.generate(request_of(prompt_of(128), 1));
  cluster.run([&] { return stream->ended(); });
  const auto events = cluster.process(0).trace().events();
  bool overlaps = false;
  for (const runtime::TraceEvent& dispatch : events) {
    if (dispatch.name != "dispatch") continue;
    const std::int64_t batch = dispatch.b & 0xF;
    for (const runtime::TraceEvent& other : events) {
      overlaps = overlaps || (other.name == "advance" && other.a != batch && other.begin > dispatch.begin &&
                              other.begin < dispatch.begin + dispatch.length);
    }
  }
  CHECK(overlaps);
}
