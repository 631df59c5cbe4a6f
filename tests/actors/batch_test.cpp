// The batch: what a request gets does not depend on who runs beside it, on its pages, or on who had to make room.
#include <random>

#include "actors/serving_world.hpp"

using namespace consort;
using namespace consort::tests;
using actors::EndReason;

namespace {

struct Chance {
  explicit Chance(std::uint32_t seed) : engine(seed) {}
  std::uint32_t operator()() { return static_cast<std::uint32_t>(engine()); }
  std::mt19937 engine;
};

const std::vector<WorldNode> kTwoNodes = {{"desk", true, true, true}, {"garage", false, false, true}};
const std::vector<WorldNode> kThreeNodes = {
    {"desk", true, true, true}, {"attic", false, true, true}, {"garage", false, false, true}};

using Streams = std::vector<std::shared_ptr<ClientStream>>;

bool all_ended(const Streams& streams) {
  return std::ranges::all_of(streams, [](const auto& stream) { return stream->ended(); });
}

std::shared_ptr<ClientStream> run_one(ServingWorld& cluster, const actors::GenerationRequest& request) {
  const auto stream = cluster.generate(request);
  cluster.run([&] { return stream->ended(); });
  return stream;
}

// Greedy and seeded ones, some with penalties or a constraint, some that begin alike.
std::vector<actors::GenerationRequest> mixed_requests(Chance& chance, std::size_t count) {
  std::vector<actors::GenerationRequest> requests;
  for (std::size_t i = 0; i < count; ++i) {
    const bool begins_alike = chance() % 2 == 0;
    auto prompt = begins_alike ? prompt_of(130, 3) : std::vector<std::uint32_t>();
    for (const std::uint32_t id : prompt_of(1 + chance() % 60, static_cast<std::uint32_t>(i))) prompt.push_back(id);
    auto request = request_of(std::move(prompt), 1 + chance() % 180);
    request.sampling.seed = i;
    if (chance() % 3 == 0) request.sampling.temperature = 0;
    if (chance() % 3 == 0) request.penalties = {0.5F, 0.25F, 1.2F, {{5, 3.0F}, {7, -100.0F}}};
    if (chance() % 4 == 0) request.constraint.kind = model::ConstraintKind::kJsonObject;
    request.priority = static_cast<std::int32_t>(chance() % 3);
    requests.push_back(std::move(request));
  }
  return requests;
}

}  // namespace

TEST_CASE("penalties and biases act on what a cluster generates as on what a plain loop does") {
  const TinyModel model;
  ServingWorld cluster(model, kThreeNodes);
  auto request = request_of(prompt_of(37), 30);
  request.sampling.temperature = 0;
  const auto plain = model.generate(request);
  std::vector<model::PenaltyParams> all = {{2.0F, 0, 1, {}}, {0, 2.0F, 1, {}}, {0, 0, 5.0F, {}}, {0, 0, 1, {}}};
  all[3].logit_bias = {{plain[0].id, -100.0F}};
  for (const model::PenaltyParams& penalties : all) {
    request.penalties = penalties;
    const auto expected = model.generate(request);
    const auto stream = run_one(cluster, request);
    check_equal(*stream, expected);
    CHECK_FALSE(std::ranges::equal(expected, plain));  // else the test says nothing
  }
  request.penalties = {0, 0, 1, {{plain[0].id, -100.0F}}};
  const auto banned = run_one(cluster, request);
  REQUIRE_FALSE(banned->tokens.empty());
  for (const auto& token : banned->tokens) CHECK(token.id != plain[0].id);
  cluster.check_rest();
}

TEST_CASE("a constraint bounds every token, also where its masks are slow to make") {
  const TinyModel model;
  ServingWorld cluster(model, kThreeNodes);
  auto request = request_of(prompt_of(20), 20);
  request.constraint.kind = model::ConstraintKind::kJsonObject;
  const auto stream = run_one(cluster, request);
  check_equal(*stream, model.generate(request));
  for (std::size_t i = 0; i < stream->tokens.size(); ++i) CHECK(stream->tokens[i].id % 3 == i % 3);
  cluster.check_rest();
}

TEST_CASE("a constraint that makes no sense refuses its request before it is accepted, a cancelled one ends once") {
  const TinyModel model;
  ServingWorld cluster(model, kTwoNodes);
  auto request = request_of(prompt_of(20), 20);
  request.constraint = {model::ConstraintKind::kJsonSchema, "nonsense", false};
  const auto refused = run_one(cluster, request);
  CHECK(refused->ends[0].text.find("makes no sense") != std::string::npos);
  CHECK(refused->ends[0].kind == runtime::ErrorKind::kInvalid);
  CHECK(cluster.batcher().accepted == 0);
  request.constraint.text.clear();
  const auto cancelled = cluster.generate(request);
  cluster.run([&] { return !cancelled->tokens.empty(); });
  cluster.cancel_last();
  cluster.run([&] { return cancelled->ended(); });
  CHECK(cancelled->ends[0].reason == EndReason::kCancelled);
  cluster.check_rest();
}

TEST_CASE("without a compiler a constraint is refused in words") {
  const TinyModel model;
  ServingOptions options;
  options.compiler = nullptr;
  ServingWorld cluster(model, kTwoNodes, options);
  auto request = request_of(prompt_of(20), 20);
  request.constraint.kind = model::ConstraintKind::kJsonObject;
  CHECK(run_one(cluster, request)->ends[0].text.find("cannot constrain") != std::string::npos);
}

TEST_CASE("a prompt that was there before is taken from the cache, with the same bits") {
  const TinyModel model;
  ServingWorld cluster(model, kTwoNodes);
  const auto request = request_of(prompt_of(200), 12);
  const auto expected = model.generate(request);
  const auto first = run_one(cluster, request);
  const auto second = run_one(cluster, request);
  check_equal(*first, expected);
  check_equal(*second, expected);
  CHECK(first->ends[0].cached_tokens == 0);
  CHECK(second->ends[0].cached_tokens == 192);
  CHECK(cluster.batcher().cache_queries == 400);
  CHECK(cluster.batcher().cache_hits == 192);
  CHECK(cluster.batcher().pages_cached == 3);
  // A partial hit: two pages alike, then another way.
  auto longer = request;
  longer.prompt.resize(140);
  for (const std::uint32_t id : prompt_of(100, 50)) longer.prompt.push_back(id);
  const auto third = run_one(cluster, longer);
  check_equal(*third, model.generate(longer));
  CHECK(third->ends[0].cached_tokens == 128);
  cluster.check_rest();
}

TEST_CASE("a whole number of pages leaves a token to compute") {
  const TinyModel model;
  ServingWorld cluster(model, kTwoNodes);
  const auto request = request_of(prompt_of(128), 5);
  const auto expected = model.generate(request);
  check_equal(*run_one(cluster, request), expected);
  const auto again = run_one(cluster, request);
  check_equal(*again, expected);
  CHECK(again->ends[0].cached_tokens == 64);
  cluster.check_rest();
}

TEST_CASE("an answer is in the cache for the turn that follows it") {
  const TinyModel model;
  ServingWorld cluster(model, kTwoNodes);
  const auto request = request_of(prompt_of(100), 40);
  const auto first = run_one(cluster, request);
  auto next = request;
  for (const auto& token : first->tokens) next.prompt.push_back(token.id);
  const auto second = run_one(cluster, next);
  check_equal(*second, model.generate(next));
  CHECK(second->ends[0].cached_tokens == 128);  // of 140, 139 of which had KV
}

TEST_CASE("requests of another salt find nothing of each other's prompts") {
  const TinyModel model;
  ServingWorld cluster(model, kTwoNodes);
  auto request = request_of(prompt_of(200), 4);
  request.cache_salt = "ann";
  (void)run_one(cluster, request);
  request.cache_salt = "bob";
  CHECK(run_one(cluster, request)->ends[0].cached_tokens == 0);
  request.cache_salt = "ann";
  CHECK(run_one(cluster, request)->ends[0].cached_tokens == 192);
}

TEST_CASE("switched off, the cache keeps nothing") {
  const TinyModel model;
  ServingOptions options;
  options.batcher.prefix_cache = false;
  ServingWorld cluster(model, kTwoNodes, options);
  const auto request = request_of(prompt_of(200), 4);
  (void)run_one(cluster, request);
  CHECK(run_one(cluster, request)->ends[0].cached_tokens == 0);
  CHECK(cluster.batcher().pages_cached == 0);
  cluster.check_rest();
}

// The second request comes while the first one's pages are half written: it must not read them. After three whole pages
// it has one token left, which would not wait for the first one's prompt.
TEST_CASE("a page is shared only when its KV is written, whenever the second request comes") {
  const TinyModel model;
  const auto request = request_of(prompt_of(200), 6);
  const auto expected = model.generate(request);
  auto shorter = request;
  shorter.prompt.resize(193);
  const auto expected_of_shorter = model.generate(shorter);
  bool some = false, all = false;
  for (int delay = 0; delay < 40; ++delay) {
    CAPTURE(delay);
    ServingOptions options;
    options.batcher.chunk_tokens = 24;
    ServingWorld cluster(model, kTwoNodes, options);
    const auto first = cluster.generate(request);
    cluster.world.run_for(delay * 250us);
    const auto second = cluster.generate(shorter);
    cluster.run([&] { return first->ended() && second->ended(); });
    check_equal(*first, expected);
    check_equal(*second, expected_of_shorter);
    const std::uint32_t cached = second->ends[0].cached_tokens;
    some = some || (cached > 0 && cached < 192);
    all = all || cached == 192;
    cluster.check_rest();
  }
  CHECK(some);
  CHECK(all);
}

TEST_CASE("where pages run out the last in turn makes room and is computed again, with the same bits") {
  const TinyModel model;
  for (const bool cache : {true, false}) {
    CAPTURE(cache);
    ServingOptions options;
    options.page_count = 7;
    options.batcher.prefix_cache = cache;
    ServingWorld cluster(model, kTwoNodes, options);
    std::vector<actors::GenerationRequest> requests;
    Streams streams;
    for (std::uint32_t i = 0; i < 4; ++i) {
      requests.push_back(request_of(prompt_of(60, i), 180));
      streams.push_back(cluster.generate(requests.back()));
      cluster.world.run_for(1ms);  // they arrive in this order
    }
    cluster.run([&] { return all_ended(streams); });
    for (std::size_t i = 0; i < streams.size(); ++i) check_equal(*streams[i], model.generate(requests[i]));
    CHECK(cluster.batcher().preemptions > 0);
    CHECK(streams[0]->ends[0].preemptions == 0);  // the oldest never
    cluster.check_rest();
  }
}

TEST_CASE("a request of an earlier priority drives out others and is not driven out") {
  const TinyModel model;
  ServingOptions options;
  options.page_count = 7;
  ServingWorld cluster(model, kTwoNodes, options);
  auto late = request_of(prompt_of(60, 1), 180);
  auto early = request_of(prompt_of(60, 2), 180);
  early.priority = -1;
  const Streams streams = {cluster.generate(late), cluster.generate(late), cluster.generate(early)};
  cluster.run([&] { return all_ended(streams); });
  check_equal(*streams[0], model.generate(late));
  check_equal(*streams[1], model.generate(late));
  check_equal(*streams[2], model.generate(early));
  CHECK(streams[2]->ends[0].preemptions == 0);
  CHECK(streams[1]->ends[0].preemptions > 0);
  CHECK(cluster.batcher().preemptions > 0);
  auto wrong = early;
  wrong.priority = actors::kMaxPriority + 1;
  CHECK(run_one(cluster, wrong)->ends[0].text.find("priority") != std::string::npos);
  cluster.check_rest();
}

TEST_CASE("the queue is in order of priority, then of age") {
  const TinyModel model;
  ServingOptions options;
  options.batcher.max_running = 1;
  ServingWorld cluster(model, kTwoNodes, options);
  Streams streams;
  for (const std::int32_t priority : {5, 5, 1, -3, 1}) {
    auto request = request_of(prompt_of(10), 4);
    request.priority = priority;
    streams.push_back(cluster.generate(request));
    cluster.world.run_for(200us);
  }
  std::vector<std::size_t> ended;
  cluster.run([&] {
    for (std::size_t i = 0; i < streams.size(); ++i) {
      if (streams[i]->ended() && std::ranges::find(ended, i) == ended.end()) ended.push_back(i);
    }
    return ended.size() == streams.size();
  });
  CHECK(ended == std::vector<std::size_t>{0, 3, 2, 4, 1});
}

TEST_CASE("a cancelled request's pages are free within the step that runs") {
  const TinyModel model;
  ServingWorld cluster(model, kTwoNodes);
  const auto other = cluster.generate(request_of(prompt_of(10), 300));
  const auto stream = cluster.generate(request_of(prompt_of(200, 9), 200));
  cluster.run([&] { return stream->tokens.size() > 3; });
  CHECK(cluster.batcher().pages_used >= 5);
  cluster.cancel_last();
  cluster.run([&] { return stream->ended(); });
  const std::uint64_t steps = cluster.batcher().steps;
  cluster.run([&] { return cluster.batcher().steps > steps; });  // the step under way has ended
  CHECK(cluster.batcher().running == 1);
  CHECK(cluster.batcher().pages_used <= 2);
  cluster.run([&] { return other->ended(); });
  cluster.check_rest();
}

TEST_CASE("beyond the queue's tokens a request is told when to come again") {
  const TinyModel model;
  ServingOptions options;
  options.batcher.max_running = 1;
  options.batcher.max_queued_tokens = 500;
  ServingWorld cluster(model, kTwoNodes, options);
  Streams streams;
  for (std::uint32_t i = 0; i < 4; ++i) streams.push_back(cluster.generate(request_of(prompt_of(100, i), 100)));
  cluster.run([&] { return all_ended(streams); });
  std::size_t refused = 0;
  for (const auto& stream : streams) {
    if (stream->ends[0].reason != EndReason::kFailed) continue;
    ++refused;
    CHECK(stream->ends[0].kind == runtime::ErrorKind::kExhausted);
    CHECK(stream->ends[0].come_again_ms >= 1000);
    CHECK(stream->ends[0].text.find("the queue is full") != std::string::npos);
  }
  CHECK(refused == 1);
  CHECK(cluster.batcher().refused == 1);
  cluster.check_rest();
}

TEST_CASE("64 requests run at once in one step") {
  const TinyModel model;
  ServingOptions options;
  options.page_count = 128;
  ServingWorld cluster(model, kTwoNodes, options);
  Streams streams;
  std::vector<actors::GenerationRequest> requests;
  for (std::uint32_t i = 0; i < 64; ++i) {
    requests.push_back(request_of(prompt_of(3 + i % 20, i), 40));
    streams.push_back(cluster.generate(requests.back()));
  }
  cluster.run([&] { return cluster.batcher().running == 64; });
  cluster.run([&] { return all_ended(streams); });
  for (std::size_t i = 0; i < streams.size(); ++i) check_equal(*streams[i], model.generate(requests[i]));
  CHECK(cluster.batcher().steps < 64 * 40 / 8);
  cluster.check_rest();
}

TEST_CASE("a Decoder that has the prompt's pages is chosen, unless it is much busier") {
  const TinyModel model;
  ServingWorld cluster(model, kThreeNodes);
  const auto request = request_of(prompt_of(200), 8);
  (void)run_one(cluster, request);
  for (int i = 0; i < 3; ++i) CHECK(run_one(cluster, request)->ends[0].cached_tokens == 192);
  Streams streams;
  for (int i = 0; i < 12; ++i) streams.push_back(cluster.generate(request));
  cluster.run([&] { return all_ended(streams); });
  CHECK(cluster.router(1).dispatches > 0);  // some went to the other one
  CHECK(std::ranges::any_of(streams, [](const auto& stream) { return stream->ends[0].cached_tokens == 0; }));
  for (const auto& stream : streams) check_equal(*stream, model.generate(request));
  cluster.check_rest();
}

TEST_CASE("a lost Decoder's cache is lost with it") {
  const TinyModel model;
  ServingWorld cluster(model, {{"desk", true, false, true}, {"attic", false, true, true}});
  const auto request = request_of(prompt_of(200), 4);
  (void)run_one(cluster, request);
  CHECK(run_one(cluster, request)->ends[0].cached_tokens == 192);
  cluster.lose(1);
  CHECK(cluster.batcher().pages_used == 0);
  cluster.bring_back(1);
  const auto after = run_one(cluster, request);
  check_equal(*after, model.generate(request));
  CHECK(after->ends[0].cached_tokens == 0);
  cluster.check_rest();
}

// The invariant: ids and CRCs of the logits of every request are those of a plain loop, whatever the batch, the chunks,
// the pages, the order of arrival, and whether a Decoder dies.
TEST_CASE("a request's bits do not depend on batch, chunks, cache, preemption or the loss of a Decoder") {
  const TinyModel model;
  std::uint64_t preemptions = 0, hits = 0, moves = 0;
  for (std::uint32_t seed = 1; seed <= 24; ++seed) {
    CAPTURE(seed);
    Chance chance(seed);
    const auto requests = mixed_requests(chance, 4 + chance() % 8);
    ServingOptions options;
    options.seed = seed;
    options.replicas = 2;
    options.page_count = 6 + chance() % 3;
    options.batcher.max_running = 2 + chance() % 12;
    options.batcher.chunk_tokens = 1 + chance() % 200;
    options.batcher.prefix_cache = chance() % 4 != 0;
    ServingWorld cluster(model, kThreeNodes, options);
    Streams streams;
    const std::size_t lost_after = chance() % 2 == 0 ? 1 + chance() % (requests.size() - 1) : requests.size();
    for (std::size_t i = 0; i < requests.size(); ++i) {
      streams.push_back(cluster.generate(requests[i]));
      cluster.world.run_for((chance() % 20) * 500us);
      if (i == lost_after) {
        cluster.run([&] { return cluster.batcher().running > 1 || all_ended(streams); });
        cluster.lose(1);
      }
    }
    cluster.run([&] { return all_ended(streams); });
    for (std::size_t i = 0; i < requests.size(); ++i) {
      CAPTURE(i);
      check_equal(*streams[i], model.generate(requests[i]));
    }
    preemptions += cluster.batcher().preemptions;
    hits += cluster.batcher().cache_hits;
    moves += cluster.batcher().decoder_moves;
    cluster.check_rest();
  }
  CHECK(preemptions > 10);
  CHECK(hits > 1000);
  CHECK(moves > 0);
}
