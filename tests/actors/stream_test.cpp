// Streams: credits, cancellation, refusals, logits and warm-up, as a client meets them.
#include "actors/serving_world.hpp"

using namespace consort;
using namespace consort::tests;
using actors::EndReason;

namespace {

const std::vector<WorldNode> kTwoNodes = {{"desk", true, true, true}, {"garage", false, false, true}};

// A client that counts and grants by hand.
class SlowClient final : public runtime::ActorOf<SlowClient, actors::StreamProtocol> {
 public:
  struct Seen {
    std::vector<std::uint32_t> first_indices;
    std::size_t tokens = 0;
    std::vector<actors::GenerationEnded> ends;
    std::function<void(std::uint32_t)> grant;
    std::function<void()> stop;
  };
  SlowClient(runtime::RefTo<actors::BatcherProtocol> batcher, actors::GenerateTokens request,
             std::shared_ptr<Seen> seen)
      : batcher_(batcher), request_(std::move(request)), seen_(std::move(seen)) {}
  void on(actors::TokensGenerated message) {
    seen_->first_indices.push_back(message.first_index);
    seen_->tokens += message.ids.size();
  }
  void on(actors::GenerationEnded message) { seen_->ends.push_back(std::move(message)); }

 private:
  void on_start() override {
    seen_->grant = [this](std::uint32_t count) { tell(batcher_, actors::GrantTokens{request_.stream, count}); };
    seen_->stop = [this] { stop(); };
    ask(batcher_, request_, 5s).then([](runtime::Outcome<actors::GenerationAccepted>) {});
  }
  const runtime::RefTo<actors::BatcherProtocol> batcher_;
  const actors::GenerateTokens request_;
  std::shared_ptr<Seen> seen_;
};

std::shared_ptr<SlowClient::Seen> slow_client(ServingWorld& cluster, std::uint32_t credits, std::uint32_t deadline_ms) {
  auto seen = std::make_shared<SlowClient::Seen>();
  actors::GenerateTokens request;
  request.stream = 5;
  request.prompt = prompt_of(6);
  request.max_new_tokens = 10;
  request.credits = credits;
  request.deadline_ms = deadline_ms;
  cluster.client().loop().spawn_root(700, 1, [seen, request, batcher = cluster.batcher_ref()] {
    return std::make_unique<SlowClient>(batcher, request, seen);
  });
  cluster.world.touch();
  return seen;
}

}  // namespace

TEST_CASE("no more tokens are under way than the client gave credit for") {
  const TinyModel model;
  ServingWorld cluster(model, kTwoNodes);
  const auto seen = slow_client(cluster, 3, 60'000);
  cluster.world.run_for(2s);
  CHECK(seen->tokens == 3);
  CHECK(cluster.batcher().running == 0);  // it is made whole meanwhile and holds no pages
  seen->grant(4);
  cluster.world.touch();
  cluster.world.run_for(2s);
  CHECK(seen->tokens == 7);
  CHECK(seen->ends.empty());
  seen->grant(100);
  cluster.world.touch();
  cluster.world.run_for(2s);
  CHECK(seen->tokens == 10);
  REQUIRE(seen->ends.size() == 1);
  CHECK(seen->ends[0].reason == EndReason::kLength);
  CHECK(seen->ends[0].generated_tokens == 10);
  cluster.check_rest();
}

TEST_CASE("a client that grants nothing gets its end at the deadline") {
  const TinyModel model;
  ServingWorld cluster(model, kTwoNodes);
  const auto seen = slow_client(cluster, 2, 3'000);
  cluster.world.run_for(5s);
  CHECK(seen->tokens == 2);
  REQUIRE(seen->ends.size() == 1);
  CHECK(seen->ends[0].reason == EndReason::kDeadline);
  CHECK(seen->ends[0].text.find("credit") != std::string::npos);
  cluster.check_rest();
}

TEST_CASE("a cancelled stream ends once and gives its pages back") {
  const TinyModel model;
  ServingWorld cluster(model, kTwoNodes);
  const auto stream = cluster.generate(request_of(prompt_of(30), 400));
  cluster.run([&] { return stream->tokens.size() > 3; });
  cluster.cancel_last();
  cluster.run([&] { return stream->ended(); });
  CHECK(stream->ends[0].reason == EndReason::kCancelled);
  const std::size_t tokens = stream->tokens.size();
  cluster.check_rest();
  CHECK(stream->ends.size() == 1);
  CHECK(stream->tokens.size() == tokens);
  CHECK(tokens < 400);
}

TEST_CASE("the streams of a client that is gone are cancelled") {
  const TinyModel model;
  ServingWorld cluster(model, kTwoNodes);
  (void)cluster.generate(request_of(prompt_of(30), 400));
  cluster.run([&] { return cluster.batcher().running == 1; });
  cluster.lose_client();
  cluster.run([&] { return cluster.batcher().ended == 1; }, 10s);
  cluster.check_rest();
}

TEST_CASE("a stop id ends the stream and is its last token") {
  const TinyModel model;
  ServingWorld cluster(model, kTwoNodes);
  auto request = request_of(prompt_of(6), 30);
  const auto all = model.generate(request);
  request.stop_ids = {all[4].id};
  const auto expected = model.generate(request);
  const auto stream = cluster.generate(request);
  cluster.run([&] { return stream->ended(); });
  CHECK(stream->ends[0].reason == EndReason::kStop);
  REQUIRE(stream->tokens.size() == expected.size());
  CHECK(stream->tokens.back().id == all[4].id);
  cluster.check_rest();
}

TEST_CASE("more requests than may run wait for their turn, and beyond the queue are refused") {
  const TinyModel model;
  ServingOptions options;
  options.batcher.max_running = 2;
  options.batcher.max_queued = 3;
  ServingWorld cluster(model, kTwoNodes, options);
  std::vector<std::shared_ptr<ClientStream>> streams;
  for (std::uint32_t i = 0; i < 8; ++i) streams.push_back(cluster.generate(request_of(prompt_of(5, i), 5)));
  cluster.run([&] { return std::ranges::all_of(streams, [](const auto& stream) { return stream->ended(); }); });
  std::size_t whole = 0, refused = 0;
  for (const auto& stream : streams) {
    whole += stream->ends[0].reason == EndReason::kLength ? 1 : 0;
    refused += stream->ends[0].text.find("the queue is full") != std::string::npos ? 1 : 0;
  }
  CHECK(whole == 5);
  CHECK(refused == 3);
  cluster.check_rest();
}

TEST_CASE("what can never run is refused in words") {
  const TinyModel model;
  ServingOptions options;
  options.page_count = 4;
  ServingWorld cluster(model, kTwoNodes, options);
  cluster.world.run_for(100ms);
  const auto ends_with = [&](actors::GenerationRequest request, const std::string& words) {
    const auto stream = cluster.generate(std::move(request));
    cluster.run([&] { return stream->ended(); });
    CAPTURE(stream->ends[0].text);
    CHECK(stream->ends[0].reason == EndReason::kFailed);
    CHECK(stream->ends[0].text.find(words) != std::string::npos);
  };
  ends_with(request_of({}, 4), "no tokens");
  ends_with(request_of({3}, 0), "max_new_tokens");
  ends_with(request_of({3, 96}, 4), "outside the vocabulary");
  ends_with(request_of(prompt_of(10), 600), "the model takes 512");
  ends_with(request_of(prompt_of(300), 10), "KV pages");
  auto hot = request_of({3}, 4);
  hot.sampling.top_p = 7;
  ends_with(hot, "top_p");
  cluster.check_rest();
}

TEST_CASE("logits, hidden rows and routes of a cluster equal those of a plain loop in bits") {
  const TinyModel model(2);
  ServingOptions options;
  options.batcher.chunk_tokens = 16;
  ServingWorld cluster(
      model, {{"desk", true, false, true}, {"attic", false, true, true}, {"garage", false, false, true}}, options);
  actors::ComputeLogits message;
  message.ids = prompt_of(40);
  const auto answer = cluster.ask_batcher(message);
  cluster.run([&] { return answer->has_value(); });
  REQUIRE_MESSAGE((*answer)->ok(), ((*answer)->ok() ? "" : (*answer)->error().text));
  const actors::LogitsComputed computed = (*answer)->value();
  CHECK(computed.tokens == 40);
  CHECK(computed.vocabulary == 96);
  CHECK(computed.layers == 3);
  CHECK(computed.first_moe_layer == 1);

  struct Recorder final : model::PassListener {
    std::map<std::string, std::vector<std::byte>> tensors;
    void put(const std::string& name, std::span<const std::byte> bytes) {
      auto& tensor = tensors[name];
      tensor.insert(tensor.end(), bytes.begin(), bytes.end());
    }
    void on_hidden(std::int64_t index, std::span<const model::RowOrigin>, runtime::ConstTensorView hidden) override {
      put("hidden." + std::to_string(index), {hidden.bytes(), static_cast<std::size_t>(hidden.size_bytes())});
    }
    void on_routes(runtime::LayerIndex layer, std::span<const model::RowOrigin>, const model::Routes& routes) override {
      const std::vector<std::int64_t> ids(routes.experts.begin(), routes.experts.end());
      put("routes." + std::to_string(layer.value) + ".experts", std::as_bytes(std::span(ids)));
      put("routes." + std::to_string(layer.value) + ".weights", std::as_bytes(std::span(routes.weights)));
    }
  } expected;
  runtime::InlineWorkers workers;
  model::LocalGeneration generation(model.local, 4, workers);
  const std::vector<std::int32_t> ids(message.ids.begin(), message.ids.end());
  const auto logits = generation.prefill(generation.open(), ids, 1000, 40, &expected).value();
  expected.put("logits", {logits.view().bytes(), static_cast<std::size_t>(logits.view().size_bytes())});
  CHECK(expected.tensors.size() == 1 + 4 + 2 * 2);

  for (const auto& [name, bytes] : expected.tensors) {
    CAPTURE(name);
    std::vector<std::byte> got;
    while (got.size() < bytes.size()) {
      const auto slice = cluster.ask_batcher(actors::ReadLogitsSlice{computed.capture, name, got.size(), 1000});
      cluster.run([&] { return slice->has_value(); });
      REQUIRE_MESSAGE((*slice)->ok(), ((*slice)->ok() ? "" : (*slice)->error().text));
      CHECK((*slice)->value().tensor_bytes == bytes.size());
      const auto piece = (*slice)->value().bytes.bytes();
      REQUIRE(piece.size() > 0);
      got.insert(got.end(), piece.begin(), piece.end());
    }
    CHECK(got == bytes);
  }
}

TEST_CASE("a warm-up crosses every Decoder and every node that holds parts, or says which it did not") {
  const TinyModel model;
  ServingWorld cluster(model,
                       {{"desk", true, true, true}, {"attic", false, true, true}, {"garage", false, false, true}});
  // One part only at garage: no prompt would find it by itself.
  const auto answer = cluster.ask_batcher(actors::WarmUp{5'000});
  cluster.run([&] { return answer->has_value(); });
  REQUIRE_MESSAGE((*answer)->ok(), ((*answer)->ok() ? "" : (*answer)->error().text));
  CHECK((*answer)->value().decoders == std::vector{NodeId{1}, NodeId{2}});
  CHECK((*answer)->value().visited == std::vector{NodeId{1}, NodeId{2}, NodeId{3}});
  cluster.lose(2);
  const auto refused = cluster.ask_batcher(actors::WarmUp{3'000});
  cluster.run([&] { return refused->has_value(); });
  REQUIRE_FALSE((*refused)->ok());
  CAPTURE((*refused)->error().text);
  CHECK((*refused)->error().text.find("garage") != std::string::npos);
  cluster.world.run_for(2s);
  CHECK(cluster.batcher().pages_used == 0);
}
