// Nodes die, fall silent and come back in the middle of a token; the tokens do not change.
#include "actors/serving_world.hpp"

using namespace consort;
using namespace consort::tests;

namespace {

const std::vector<WorldNode> kThreeNodes = {
    {"desk", true, true, true}, {"attic", false, true, true}, {"garage", false, false, true}};
constexpr std::size_t kDesk = 0, kAttic = 1, kGarage = 2;

ServingOptions replicated(std::uint64_t seed = 1) {
  ServingOptions options;
  options.seed = seed;
  options.replicas = 2;
  options.batcher.chunk_tokens = 16;
  return options;
}

std::vector<actors::GenerationRequest> two_requests() {
  return {request_of(prompt_of(20), 6), request_of(prompt_of(9, 5), 8)};
}

struct Played {
  std::uint64_t first_event = 0;  // of the requests
  std::uint64_t last_event = 0;
  std::uint64_t hash = 0;
  std::uint64_t replays = 0;
  bool was_outstanding = false;  // the trace shows a dispatch replayed
};

// Two requests over three nodes, with `fault` at one event; all must end with the undisturbed run's tokens.
Played play(
    const TinyModel& model, ServingOptions options, std::uint64_t at, const std::function<void(ServingWorld&)>& fault,
    const std::function<bool(ServingWorld&)>& is_over = [](ServingWorld&) { return true; }) {
  ServingWorld cluster(model, kThreeNodes, options);
  Played played;
  played.first_event = cluster.world.event_count();
  std::vector<std::shared_ptr<ClientStream>> streams;
  const auto requests = two_requests();
  for (const auto& request : requests) streams.push_back(cluster.generate(request));
  bool has_happened = fault == nullptr;
  if (fault) {
    cluster.world.at_event(at, [&] {
      has_happened = true;
      fault(cluster);
    });
  }
  cluster.run([&] {
    return has_happened && is_over(cluster) &&
           std::ranges::all_of(streams, [](const auto& stream) { return stream->ended(); });
  });
  played.last_event = cluster.world.event_count();
  for (std::size_t i = 0; i < requests.size(); ++i) check_equal(*streams[i], model.generate(requests[i]));
  cluster.check_rest();
  played.hash = cluster.world.trace_hash();
  for (const std::size_t trunk : {kDesk, kAttic}) {
    if (!cluster.process(trunk).alive()) continue;
    played.replays += cluster.router(trunk).replays;
    for (const runtime::TraceEvent& event : cluster.process(trunk).trace().events()) {
      played.was_outstanding = played.was_outstanding || event.name == "replayed";
    }
  }
  return played;
}

// A run has some six hundred events; every third is tried, which ends up in every handler of every actor.
#ifdef CONSORT_SANITIZED
constexpr std::uint64_t kStride = 7 * 3;
#else
constexpr std::uint64_t kStride = 3;
#endif

}  // namespace

TEST_CASE("an experts node dies at any event of a run and the tokens stay the same") {
  const TinyModel model(2);
  const Played calm = play(model, replicated(), 0, nullptr);
  std::uint64_t replayed = 0;
  for (std::uint64_t at = calm.first_event + 1; at + 1 < calm.last_event; at += kStride) {
    CAPTURE(at);
    const Played played = play(model, replicated(), at, [](ServingWorld& cluster) { cluster.lose(kGarage); });
    replayed += played.was_outstanding ? 1 : 0;
  }
  CHECK(replayed > 10);  // dispatches were outstanding at the dead node and were replayed
}

TEST_CASE("an experts node falls silent, is suspected and wakes up, and the tokens stay the same") {
  const TinyModel model;
  const Played calm = play(model, replicated(), 0, nullptr);
  std::uint64_t replays = 0;
  for (std::uint64_t at = calm.first_event + 1; at + 1 < calm.last_event; at += 7 * kStride) {
    CAPTURE(at);
    bool woke = false;
    const Played played = play(
        model, replicated(), at,
        [&](ServingWorld& cluster) {
          runtime::World& world = cluster.world;
          world.pause(cluster.process(kGarage));
          world.at(world.now() + 500ms, [&cluster] { cluster.suspect(kGarage, true); });
          world.at(world.now() + 1s, [&] {
            world.resume(cluster.process(kGarage));
            cluster.suspect(kGarage, false);
            woke = true;
          });
        },
        [&](ServingWorld&) { return woke; });
    replays += played.replays;
  }
  CHECK(replays > 5);
}

TEST_CASE("a Decoder dies at any event and its requests go on elsewhere from their committed tokens") {
  const TinyModel model;
  const Played calm = play(model, replicated(), 0, nullptr);
  for (std::uint64_t at = calm.first_event + 1; at + 1 < calm.last_event; at += 2 * kStride) {
    CAPTURE(at);
    play(model, replicated(), at, [](ServingWorld& cluster) { cluster.lose(kAttic); });
  }
}

TEST_CASE("a node that comes back under a new incarnation serves again") {
  const TinyModel model;
  ServingWorld cluster(model, kThreeNodes, replicated());
  cluster.lose(kAttic);
  cluster.bring_back(kAttic);
  const auto first = cluster.generate(request_of(prompt_of(20)));
  const auto second = cluster.generate(request_of(prompt_of(21)));
  cluster.run([&] { return first->ended() && second->ended(); });
  check_equal(*first, model.generate(request_of(prompt_of(20))));
  check_equal(*second, model.generate(request_of(prompt_of(21))));
  CHECK(cluster.router(kAttic).dispatches > 0);
  cluster.check_rest();
}

TEST_CASE("the same seed gives the same events, another seed others") {
  const TinyModel model;
  const auto lose_garage = [](ServingWorld& cluster) { cluster.lose(kGarage); };
  const Played once = play(model, replicated(3), 300, lose_garage);
  const Played again = play(model, replicated(3), 300, lose_garage);
  const Played other = play(model, replicated(4), 300, lose_garage);
  CHECK(once.hash == again.hash);
  CHECK(once.hash != other.hash);
}

TEST_CASE("a late node is hedged within its budget, and its late answers are dropped") {
  const TinyModel model;
  ServingWorld cluster(model, kThreeNodes, replicated());
  // Known as fast, so that late is soon.
  const auto warm = cluster.generate(request_of(prompt_of(4), 30));
  cluster.run([&] { return warm->ended(); });
  cluster.process(kAttic).set_slowness(20'000);  // the first choice for what desk does not hold itself
  const auto request = request_of(prompt_of(4), 30);
  const auto stream = cluster.generate(request);
  cluster.run([&] { return stream->ended(); });
  check_equal(*stream, model.generate(request));
  const auto hedges = cluster.router(kDesk).hedges + cluster.router(kAttic).hedges;
  CHECK(hedges > 0);
  cluster.run([&] { return cluster.world.not_at_rest().empty(); });
  CHECK(cluster.router(kDesk).late_answers + cluster.router(kAttic).late_answers > 0);
}

namespace {

// Which experts of the last layer a request's rows go to.
struct ExpertsSeen final : model::PassListener {
  std::set<std::uint32_t> experts;
  void on_hidden(std::int64_t, std::span<const model::RowOrigin>, runtime::ConstTensorView) override {}
  void on_routes(runtime::LayerIndex layer, std::span<const model::RowOrigin>, const model::Routes& routes) override {
    if (layer.value == 2) experts.insert(routes.experts.begin(), routes.experts.end());
  }
};

// Two requests of which only the first needs the expert.
struct Disjoint {
  actors::GenerationRequest needs, spares;
  std::uint32_t expert = 0;
};
Disjoint find_disjoint(const TinyModel& model) {
  std::vector<std::pair<actors::GenerationRequest, std::set<std::uint32_t>>> seen;
  for (std::uint32_t token = 2; token < 40; ++token) {
    auto request = request_of({token, token + 1}, 3);
    ExpertsSeen listener;
    (void)model.generate(request, &listener);
    for (const auto& [other, experts] : seen) {
      for (const std::uint32_t expert : listener.experts) {
        if (!experts.contains(expert)) return {request, other, expert};
      }
    }
    seen.emplace_back(std::move(request), std::move(listener.experts));
  }
  FAIL("no two requests with different experts");
  return {};
}

}  // namespace

TEST_CASE("requests that need a part that is nowhere wait, and end in words at their deadline; others complete") {
  const TinyModel model;
  Disjoint requests = find_disjoint(model);
  for (const bool comes_back : {false, true}) {
    CAPTURE(comes_back);
    ServingWorld cluster(model, kThreeNodes);
    for (auto& [part, nodes] : cluster.view().placement) nodes = {ServingWorld::node_id(kDesk)};
    for (auto& [part, nodes] : cluster.view().placement) {
      if (part.layer == 2 && part.index == requests.expert) nodes = {ServingWorld::node_id(kGarage)};
    }
    // Nodes load what the new table gives them.
    for (const std::size_t node : {kDesk, kGarage}) {
      cluster.lose(node);
      cluster.bring_back(node);
    }
    cluster.reconnect();
    cluster.lose(kGarage);
    requests.needs.deadline = 10s;
    const auto needs = cluster.generate(requests.needs);
    const auto spares = cluster.generate(requests.spares);
    cluster.run([&] { return spares->ended(); });
    check_equal(*spares, model.generate(requests.spares));
    CHECK_FALSE(needs->ended());
    if (comes_back) {
      cluster.world.run_for(2s);
      cluster.bring_back(kGarage);
    }
    cluster.run([&] { return needs->ended(); });
    if (comes_back) {
      check_equal(*needs, model.generate(requests.needs));
      CHECK(needs->ends[0].waits > 0);
    } else {
      CHECK(needs->ends[0].reason == actors::EndReason::kDeadline);
      CAPTURE(needs->ends[0].text);
      CHECK(needs->ends[0].text.find("layer 2 expert " + std::to_string(requests.expert)) != std::string::npos);
      // What came before is a prefix of the undisturbed run.
      const auto expected = model.generate(requests.needs);
      for (std::size_t i = 0; i < needs->tokens.size(); ++i)
        CHECK(needs->tokens[i].logits_crc == expected[i].logits_crc);
    }
    cluster.check_rest();
  }
}

TEST_CASE("rows without a part leave the step, the other rows of the same step go on") {
  const TinyModel model;
  Disjoint requests = find_disjoint(model);
  ServingWorld cluster(model, {{"desk", true, true, true}, {"garage", false, false, true}});
  for (auto& [part, nodes] : cluster.view().placement) {
    nodes = {ServingWorld::node_id(part.layer == 2 && part.index == requests.expert ? 1 : kDesk)};
  }
  cluster.lose(kDesk);
  cluster.bring_back(kDesk);
  cluster.lose(1);
  cluster.reconnect();
  requests.needs.deadline = 5s;
  const auto needs = cluster.generate(requests.needs);
  const auto spares = cluster.generate(requests.spares);  // one Decoder: they share steps
  cluster.run([&] { return needs->ended() && spares->ended(); });
  check_equal(*spares, model.generate(requests.spares));
  CHECK(needs->ends[0].reason == actors::EndReason::kDeadline);
  CHECK(needs->ends[0].waits > 10);  // tried again and again, every 200 ms
  cluster.check_rest();
}

TEST_CASE("without any Decoder a request waits for one, or ends in words at its deadline") {
  const TinyModel model;
  ServingWorld cluster(model, {{"desk", true, false, true}, {"attic", false, true, true}});
  cluster.lose(1);
  auto request = request_of(prompt_of(5), 4);
  request.deadline = 3s;
  const auto in_vain = cluster.generate(request);
  cluster.run([&] { return in_vain->ended(); });
  CHECK(in_vain->ends[0].reason == actors::EndReason::kDeadline);
  CHECK(in_vain->ends[0].text.find("no Decoder") != std::string::npos);
  const auto in_time = cluster.generate(request);
  cluster.world.run_for(1s);
  cluster.bring_back(1);
  cluster.run([&] { return in_time->ended(); });
  check_equal(*in_time, model.generate(request));
  cluster.check_rest();
}

TEST_CASE("a node that does not hold a part says so, and another replica computes it") {
  const TinyModel model;
  ServingWorld cluster(model, kThreeNodes);  // one replica each
  // A table under which garage should hold everything, before it has loaded anything of it.
  for (auto& [part, nodes] : cluster.view().placement) {
    if (nodes.front() != ServingWorld::node_id(kGarage)) nodes.insert(nodes.begin(), ServingWorld::node_id(kGarage));
  }
  for (auto& member : cluster.view().members)
    member.profile.expert_bytes_per_second = member.name == "garage" ? 1e12 : 1e6;
  cluster.view().epoch = runtime::Epoch{2};
  cluster.publish();
  const auto request = request_of(prompt_of(20));
  const auto stream = cluster.generate(request);
  cluster.run([&] { return stream->ended(); });
  check_equal(*stream, model.generate(request));
  CHECK(cluster.router(kDesk).replays > 0);
  cluster.check_rest();
}

TEST_CASE("a node that is still loading is asked only where no ready one holds the part") {
  const TinyModel model;
  for (const std::uint32_t replicas : {1u, 2u}) {
    ServingOptions options;
    options.replicas = replicas;
    ServingWorld cluster(
        model, {{"desk", true, true, false}, {"attic", false, false, true}, {"garage", false, false, true}}, options);
    for (auto& member : cluster.view().members) {
      if (member.name == "garage") member.state = cluster::NodeState::kLoading;
    }
    cluster.publish();
    const auto request = request_of(prompt_of(9));
    const auto stream = cluster.generate(request);
    cluster.run([&] { return stream->ended(); });
    check_equal(*stream, model.generate(request));
    bool garage_was_asked = false;
    for (const runtime::TraceEvent& event : cluster.process(0).trace().events()) {
      garage_was_asked = garage_was_asked || (event.name == "dispatch" && event.a == 3);
    }
    CHECK(garage_was_asked == (replicas == 1));
  }
}

TEST_CASE("a Batcher that starts anew opens new ledgers, and steps of the old one are refused") {
  const TinyModel model;
  ServingWorld cluster(model, {{"desk", true, false, true}, {"attic", false, true, true}});
  const auto before = cluster.generate(request_of(prompt_of(9), 200));
  cluster.run([&] { return before->tokens.size() > 2; });
  cluster.lose(kDesk);
  cluster.run([&] { return before->ended(); }, 10s);
  CHECK(before->ends[0].reason == actors::EndReason::kFailed);
  CHECK(before->ends[0].text.find("Batcher is gone") != std::string::npos);
  cluster.bring_back(kDesk);
  cluster.reconnect();
  const auto request = request_of(prompt_of(9));
  const auto after = cluster.generate(request);
  cluster.run([&] { return after->ended(); });
  check_equal(*after, model.generate(request));
  cluster.check_rest();
}
