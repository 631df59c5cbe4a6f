// The Gateway on a loop with a Batcher and a Membership that do what the test says.
#include "actors/serving/gateway.hpp"

#include <algorithm>
#include <map>

#include "fuzz/byte_tokenizer.hpp"
#include "support/manual_env.hpp"
#include "support/test.hpp"

using namespace consort;
using namespace consort::actors;
using namespace std::chrono_literals;
using cluster::Role;
using runtime::NodeId;
using runtime::ReplyTo;

namespace {

constexpr NodeId kNode{1};
constexpr runtime::Incarnation kLife{1};
constexpr std::int32_t kEndOfSentence = 257, kEndThink = 261;

class InlineDevice final : public runtime::Device {
 public:
  void submit(runtime::DeviceWork work, runtime::MessageClass, std::function<void()> done) override {
    runtime::InlineWorkers workers;
    work.run(workers);
    done();
  }
  int thread_count() const override { return 1; }
  std::size_t queued() const override { return 0; }
};

// What the Batcher was asked, and its hand.
struct Asked {
  GenerateTokens message;
  runtime::ActorRef client;
  std::optional<ReplyTo<GenerationAccepted>> reply;
};
struct BatcherSeen {
  std::vector<Asked> asked;
  std::vector<std::uint64_t> cancelled;
  std::function<void(std::function<void(class FakeBatcher&)>)> act;
};

class FakeBatcher final : public runtime::ActorOf<FakeBatcher, BatcherProtocol> {
 public:
  explicit FakeBatcher(std::shared_ptr<BatcherSeen> seen) : seen_(std::move(seen)) {}
  void on(GenerateTokens message, ReplyTo<GenerationAccepted> reply, const runtime::Context& context) {
    seen_->asked.push_back({std::move(message), context.source, std::move(reply)});
  }
  void on(GrantTokens) {}
  void on(CancelGeneration message) { seen_->cancelled.push_back(message.stream); }
  void on(ComputeLogits, ReplyTo<LogitsComputed>) {}
  void on(ReadLogitsSlice, ReplyTo<LogitsSlice>) {}
  void on(ReleaseLogits) {}
  void on(WarmUp, ReplyTo<WarmUpDone>) {}
  void on(cluster::ViewChanged) {}
  void on(cluster::PeerSuspected) {}
  void on(cluster::PeerLost) {}
  using Actor::tell;

 private:
  std::shared_ptr<BatcherSeen> seen_;
};

class FakeMembership final : public runtime::ActorOf<FakeMembership, cluster::MembershipProtocol> {
 public:
  explicit FakeMembership(std::shared_ptr<cluster::ClusterStatusReport> report) : report_(std::move(report)) {}
  void on(cluster::ClusterStatus, ReplyTo<cluster::ClusterStatusReport> reply) { reply.send(*report_); }
  void on(cluster::ViewUpdate) {}
  void on(cluster::RegisterAgain) {}
  void on(cluster::Heartbeat) {}
  void on(cluster::LinkEcho, ReplyTo<cluster::LinkEchoed>) {}
  void on(cluster::ChildExited) {}
  void on(cluster::CollectTrace, ReplyTo<cluster::NodeTraceEvents>) {}
  void on(cluster::EnableTrace, ReplyTo<cluster::TraceEnabled>) {}
  void on(cluster::ReadFigures, ReplyTo<cluster::NodeFiguresRead>) {}

 private:
  std::shared_ptr<cluster::ClusterStatusReport> report_;
};

struct Sink final : PortSink {
  void take(PortEvent event) override { events.push_back(std::move(event)); }
  template <class E>
  std::vector<E> all() const {
    std::vector<E> found;
    for (const auto& event : events) {
      if (const auto* one = std::get_if<E>(&event)) found.push_back(*one);
    }
    return found;
  }
  std::string content(std::uint32_t choice = 0) const {
    std::string text;
    for (const auto& piece : all<AnswerPiece>()) text += piece.choice == choice ? piece.content : "";
    return text;
  }
  std::vector<PortEvent> events;
};

cluster::ClusterStatusReport healthy_report() {
  cluster::ClusterView view;
  cluster::Member desk;
  desk.node = kNode;
  desk.incarnation = kLife;
  desk.name = "desk";
  desk.roles = {true, true, true, true};
  desk.state = cluster::NodeState::kReady;
  cluster::Member attic = desk;
  attic.node = NodeId{2};
  attic.name = "attic";
  attic.roles = {false, false, false, true};
  view.members = {desk, attic};
  view.placement[{1, 1, 0, 0, 16}] = {kNode};
  view.placement[{1, 1, 1, 0, 16}] = {NodeId{2}};
  cluster::ClusterStatusReport report;
  report.view = std::make_shared<const cluster::ClusterView>(view);
  return report;
}

struct World {
  World() {
    node.env.device = &device;
    node.loop.set_incarnation(kLife);
    node.loop.spawn_root(static_cast<std::uint16_t>(Role::kMembership), 0,
                         [this] { return std::make_unique<FakeMembership>(report); });
    node.loop.spawn_root(static_cast<std::uint16_t>(Role::kBatcher), 0, [this] {
      auto actor = std::make_unique<FakeBatcher>(seen);
      batcher = actor.get();
      return actor;
    });
    GatewaySettings settings{fuzz::byte_tokenizer(), model::ChatFormat::named("r1"), kNode};
    settings.context_tokens = 64;
    settings.vocabulary = 262;
    settings.default_max_tokens = 8;
    node.loop.spawn_root(static_cast<std::uint16_t>(Role::kGateway), 0,
                         [this, settings] { return std::make_unique<Gateway>(settings, port, metrics); });
    node.settle();
  }

  std::shared_ptr<Sink> submit(PortWork work) {
    auto sink = std::make_shared<Sink>();
    ticket = port->submit(std::move(work), sink).value();
    node.settle();
    return sink;
  }
  void accept(std::size_t i) {
    seen->asked.at(i).reply->send({seen->asked[i].message.stream, 0});
    node.settle();
  }
  void tokens(std::size_t i, std::vector<std::int32_t> ids) {
    const Asked& asked = seen->asked.at(i);
    TokensGenerated message;
    message.stream = asked.message.stream;
    message.first_index = static_cast<std::uint32_t>(made[i]);
    message.alternative_count = 0;
    for (const std::int32_t id : ids) {
      message.ids.push_back(static_cast<std::uint32_t>(id));
      message.logprobs.push_back(-1);
      message.logits_crcs.push_back(0);
    }
    made[i] += ids.size();
    batcher->tell(runtime::RefTo<StreamProtocol>{asked.client}, std::move(message));
    node.settle();
  }
  void end(std::size_t i, EndReason reason, runtime::ErrorKind kind = runtime::ErrorKind::kInternal) {
    const Asked& asked = seen->asked.at(i);
    batcher->tell(
        runtime::RefTo<StreamProtocol>{asked.client},
        GenerationEnded{asked.message.stream, reason, "words", 1, static_cast<std::uint32_t>(made[i]), 0, 0, kind});
    node.settle();
  }

  tests::ManualNode node;
  InlineDevice device;
  runtime::Metrics metrics{node.clock, node.loop};
  std::shared_ptr<RequestPort> port = std::make_shared<RequestPort>();
  std::shared_ptr<cluster::ClusterStatusReport> report =
      std::make_shared<cluster::ClusterStatusReport>(healthy_report());
  std::shared_ptr<BatcherSeen> seen = std::make_shared<BatcherSeen>();
  FakeBatcher* batcher = nullptr;
  std::map<std::size_t, std::size_t> made;
  std::uint64_t ticket = 0;
};

AnswerRequest ask(std::string text, std::uint32_t choices = 1) {
  AnswerRequest request;
  request.prompts.push_back(TextPrompt{std::move(text)});
  request.choices = choices;
  request.seed = 5;
  return request;
}

}  // namespace

TEST_CASE("a chat becomes a prompt, its tokens a thought and an answer, its end the usage") {
  World world;
  AnswerRequest request;
  request.prompts.push_back(ChatPrompt{{{model::ChatRole::kUser, "Hi"}}, true, {}});
  request.splits_thoughts = true;
  const auto sink = world.submit(request);
  REQUIRE(world.seen->asked.size() == 1);
  const GenerateTokens& asked = world.seen->asked[0].message;
  CHECK(asked.prompt == std::vector<std::uint32_t>{256, 258, 'H', 'i', 259, 260, '\n'});
  CHECK(asked.max_new_tokens == 8);
  CHECK(asked.deadline_ms == 600'000);
  CHECK(sink->events.empty());
  world.accept(0);
  CHECK(sink->all<AnswerStarted>().at(0).prompt_tokens == 7);
  world.tokens(0, {'w', kEndThink, '4', '2'});
  world.end(0, EndReason::kLength);
  CHECK(sink->all<AnswerPiece>().at(0).reasoning == "w");
  CHECK(sink->content() == "42");
  CHECK(sink->all<ChoiceEnded>().at(0).finish == Finish::kLength);
  const AnswerUsage usage = sink->all<AnswerEnded>().at(0).usage;
  CHECK(usage.prompt_tokens == 7);
  CHECK(usage.completion_tokens == 4);
  CHECK(usage.reasoning_tokens == 2);
}

TEST_CASE("several answers have seeds of their own, and nothing is said before all are accepted") {
  World world;
  const auto sink = world.submit(ask("x", 2));
  REQUIRE(world.seen->asked.size() == 2);
  CHECK(world.seen->asked[0].message.sampling.seed == 5);
  CHECK(world.seen->asked[1].message.sampling.seed != 5);
  world.accept(0);
  world.tokens(0, {'a'});
  CHECK(sink->events.empty());
  world.accept(1);
  REQUIRE(sink->events.size() == 2);
  CHECK(std::holds_alternative<AnswerStarted>(sink->events[0]));
  CHECK(sink->content(0) == "a");
  world.end(0, EndReason::kStop);
  CHECK(sink->all<AnswerEnded>().empty());
  world.end(1, EndReason::kStop);
  CHECK(sink->all<AnswerEnded>().size() == 1);
}

TEST_CASE("a stop text ends the answer and its stream in the Batcher") {
  World world;
  AnswerRequest request = ask("x");
  request.stops = {"cd"};
  const auto sink = world.submit(request);
  world.accept(0);
  world.tokens(0, {'a', 'b', 'c', 'd', 'e'});
  CHECK(sink->content() == "ab");
  CHECK(sink->all<ChoiceEnded>().at(0).finish == Finish::kStop);
  CHECK(world.seen->cancelled == std::vector<std::uint64_t>{world.seen->asked[0].message.stream});
  const std::size_t events = sink->events.size();
  world.tokens(0, {'f'});
  world.end(0, EndReason::kCancelled);
  CHECK(sink->events.size() == events);
}

TEST_CASE("a request that is cancelled ends its streams, and nothing more comes") {
  World world;
  const auto sink = world.submit(ask("x", 2));
  world.accept(0);
  world.accept(1);
  const std::size_t events = sink->events.size();
  world.port->cancel(world.ticket);
  world.node.settle();
  CHECK(world.seen->cancelled.size() == 2);
  world.tokens(0, {'a'});
  CHECK(sink->events.size() == events);
  world.port->cancel(world.ticket);  // a second time does no harm
  world.node.settle();
}

TEST_CASE("one answer that is refused ends the others and says why") {
  World world;
  const auto sink = world.submit(ask("x", 2));
  world.accept(0);
  world.seen->asked[1].reply->reject({runtime::ErrorKind::kExhausted, "the queue is full"});
  world.node.settle();
  REQUIRE(sink->events.size() == 1);
  CHECK(sink->all<WorkFailed>().at(0).kind == WorkFailure::kBusy);
  // The one that was refused is cancelled too: its refusal may have been a lost answer.
  CHECK(std::ranges::count(world.seen->cancelled, world.seen->asked[0].message.stream) == 1);
}

TEST_CASE("failures keep their kinds: for good, for now, for time") {
  const std::pair<runtime::ErrorKind, WorkFailure> kinds[] = {
      {runtime::ErrorKind::kInvalid, WorkFailure::kInvalid},
      {runtime::ErrorKind::kPeerDown, WorkFailure::kUnavailable},
      {runtime::ErrorKind::kInternal, WorkFailure::kInternal}};
  for (const auto& [kind, expected] : kinds) {
    World world;
    const auto sink = world.submit(ask("x"));
    world.accept(0);
    world.end(0, EndReason::kFailed, kind);
    CHECK(sink->all<WorkFailed>().at(0).kind == expected);
  }
  World world;
  const auto sink = world.submit(ask("x"));
  world.accept(0);
  world.end(0, EndReason::kDeadline);
  CHECK(sink->all<WorkFailed>().at(0).kind == WorkFailure::kDeadline);
}

TEST_CASE("what does not fit the context or the vocabulary never reaches the Batcher") {
  World world;
  CHECK(world.submit(ask(std::string(64, 'x')))->all<WorkFailed>().at(0).kind == WorkFailure::kTooLong);
  AnswerRequest request = ask("x");
  request.max_tokens = 64;
  CHECK(world.submit(request)->all<WorkFailed>().at(0).kind == WorkFailure::kTooLong);
  request.prompts = {IdsPrompt{{262}}};
  CHECK(world.submit(request)->all<WorkFailed>().at(0).kind == WorkFailure::kInvalid);
  CHECK(world.submit(ask(""))->all<WorkFailed>().at(0).kind == WorkFailure::kInvalid);
  AnswerRequest chat;
  chat.prompts.push_back(ChatPrompt{{{model::ChatRole::kUser, "Hi"}}, true, false});
  CHECK(world.submit(chat)->all<WorkFailed>().at(0).text.find("always thinks") != std::string::npos);
  CHECK(world.seen->asked.empty());
}

TEST_CASE("texts are encoded and decoded") {
  World world;
  CHECK(world.submit(EncodeRequest{TextPrompt{"hi<think>"}})->all<Encoded>().at(0).ids ==
        std::vector<std::int32_t>{'h', 'i', 260});
  CHECK(world.submit(DecodeRequest{{'h', 'i', 260}})->all<actors::Decoded>().at(0).text == "hi<think>");
}

TEST_CASE("the Gateway says that it serves only where every part has a living holder") {
  World world;
  CHECK(world.port->state().serves);
  ServingState state = serving_state(healthy_report(), kNode);
  CHECK(state.serves);
  cluster::ClusterStatusReport suspected = healthy_report();
  suspected.suspected = {NodeId{2}};
  state = serving_state(suspected, kNode);
  CHECK_FALSE(state.serves);
  CHECK(state.why.find("attic") != std::string::npos);
  *world.report = suspected;
  world.node.pass(3s);
  CHECK_FALSE(world.port->state().serves);
  cluster::ClusterStatusReport bare = healthy_report();
  cluster::ClusterView view = *bare.view;
  view.placement.clear();
  bare.view = std::make_shared<const cluster::ClusterView>(view);
  CHECK(serving_state(bare, kNode).why.find("no parts") != std::string::npos);
  view.members[0].state = cluster::NodeState::kLoading;
  bare.view = std::make_shared<const cluster::ClusterView>(view);
  CHECK(serving_state(bare, kNode).why.find("Batcher") != std::string::npos);
}

TEST_CASE("the port holds no more than its bound, and keeps work until the Gateway is there") {
  RequestPort port;
  auto sink = std::make_shared<Sink>();
  std::vector<std::uint64_t> tickets;
  for (std::size_t i = 0; i < RequestPort::kMaxOpen; ++i) tickets.push_back(port.submit(DecodeRequest{}, sink).value());
  CHECK(port.submit(DecodeRequest{}, sink).error().kind == runtime::ErrorKind::kExhausted);
  int woken = 0;
  port.attach([&] { ++woken; });
  CHECK(woken == 1);
  CHECK(port.take().works.size() == RequestPort::kMaxOpen);
  CHECK(port.take().works.empty());
  port.cancel(tickets[0]);
  CHECK(woken == 2);
  CHECK(port.take().cancelled == std::vector<std::uint64_t>{tickets[0]});
  port.close(tickets[0]);
  port.cancel(tickets[0]);
  CHECK(port.take().cancelled.empty());
  CHECK(port.submit(DecodeRequest{}, sink).ok());
}
