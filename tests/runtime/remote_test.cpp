#include "runtime/error_reply.hpp"
#include "support/manual_env.hpp"
#include "support/test.hpp"
#include "test_messages.hpp"

namespace consort::tests {
namespace {

using namespace runtime;

// Two loops, what one sends reaching the other as a frame would.
struct TwoNodes {
  TwoNodes() {
    left.loop.set_incarnation(Incarnation{11});
    right.loop.set_incarnation(Incarnation{12});
    asker = start_scribe(left.loop, 1, 0, left_diary);
    answerer = start_scribe(right.loop, 2, 0, right_diary);
    settle();
  }
  static bool carry(ManualNode& from, ManualNode& to) {
    auto sent = std::exchange(from.remote.sent, {});
    for (auto& outgoing : sent) {
      CHECK(outgoing.target.node == to.loop.node());
      to.loop.receive_remote(header_of(outgoing, from.clock.now()), std::move(outgoing.message));
    }
    return !sent.empty();
  }
  void settle() {
    do {
      left.settle();
      right.settle();
    } while (carry(left, right) || carry(right, left));
  }
  void ask(int value, Duration deadline = 1s) {
    act(left.loop, *asker, [this, value, deadline] {
      asker->ask(ScribeRef{answerer->self()}, Question{value}, deadline).then([this](Outcome<Number> n) {
        outcomes.push_back(std::move(n));
      });
    });
  }
  Diary left_diary;
  Diary right_diary;
  ManualNode left{NodeId{1}};
  ManualNode right{NodeId{2}};
  Scribe* asker = nullptr;
  Scribe* answerer = nullptr;
  std::vector<Outcome<Number>> outcomes;
};

TEST_CASE("a tell and an ask cross to another node and the answer comes back") {
  TwoNodes nodes;
  act(nodes.left.loop, *nodes.asker, [&] { nodes.asker->tell(ScribeRef{nodes.answerer->self()}, Number{5}); });
  nodes.ask(4);
  nodes.settle();
  CHECK(nodes.right_diary.numbers == std::vector<int>{5});
  REQUIRE(nodes.outcomes.size() == 1);
  CHECK(nodes.outcomes[0].value().value == 8);
  CHECK(nodes.left.loop.outstanding_asks() == 0);
}

TEST_CASE("an ask carries what remains of its deadline") {
  TwoNodes nodes;
  nodes.ask(4, 3ms);
  nodes.left.settle();
  REQUIRE(nodes.left.remote.sent.size() == 1);
  nodes.left.clock.advance(1ms);
  CHECK(header_of(nodes.left.remote.sent[0], nodes.left.clock.now()).remaining_us == 2000);
  nodes.answerer->keep = true;
  TwoNodes::carry(nodes.left, nodes.right);
  nodes.right.clock.advance(2ms);
  nodes.settle();
  CHECK(nodes.answerer->kept.empty());  // expired in the queue: not worked on, and answered
  REQUIRE(nodes.outcomes.size() == 1);
  CHECK(nodes.outcomes[0].error().kind == ErrorKind::kTimedOut);
}

TEST_CASE("a remote actor that is gone answers no_actor in words") {
  TwoNodes nodes;
  nodes.right.loop.stop_actor({2, 0, 0});
  const ActorRef gone{NodeId{2}, Incarnation{12}, {2, 1, 0}};
  act(nodes.left.loop, *nodes.asker, [&] {
    nodes.asker->ask(ScribeRef{gone}, Question{1}, 1s).then([&](Outcome<Number> n) { nodes.outcomes.push_back(n); });
  });
  nodes.settle();
  REQUIRE(nodes.outcomes.size() == 1);
  CHECK(nodes.outcomes[0].error().kind == ErrorKind::kNoActor);
  CHECK(nodes.outcomes[0].error().text.find("2/0") != std::string::npos);
}

TEST_CASE("a dropped ReplyTo reaches a remote asker as cancelled") {
  TwoNodes nodes;
  nodes.answerer->keep = true;
  nodes.ask(1);
  nodes.settle();
  REQUIRE(nodes.answerer->kept.size() == 1);
  nodes.right.loop.stop_actor(nodes.answerer->self().actor);
  nodes.settle();
  REQUIRE(nodes.outcomes.size() == 1);
  CHECK(nodes.outcomes[0].error().kind == ErrorKind::kCancelled);
}

TEST_CASE("what cannot leave completes the ask with the delivery's error, and a tell is a dead letter") {
  TwoNodes nodes;
  nodes.left.remote.refuse_with = Error{ErrorKind::kExhausted, "no credit"};
  act(nodes.left.loop, *nodes.asker, [&] { nodes.asker->tell(ScribeRef{nodes.answerer->self()}, Number{5}); });
  nodes.ask(1);
  nodes.settle();
  REQUIRE(nodes.outcomes.size() == 1);
  CHECK(nodes.outcomes[0].error().kind == ErrorKind::kExhausted);
  CHECK(nodes.left.loop.dead_letter_count(ErrorKind::kExhausted) == 2);
}

TEST_CASE("a local message does not leave its node") {
  TwoNodes nodes;
  nodes.left.loop.send_tell({}, nodes.answerer->self(), MessageClass::kSystem, {}, AnyMessage(Act{[] {}}));
  CHECK(nodes.left.remote.sent.empty());
  CHECK(nodes.left.loop.dead_letter_count(ErrorKind::kInternal) == 1);
}

TEST_CASE("bytes that do not decode are refused in words, and kinds that nobody takes too") {
  TwoNodes nodes;
  FrameHeader header;
  header.type = FrameType::kAsk;
  header.kind = Question::kKind;
  header.source_node = NodeId{1};
  header.source_incarnation = Incarnation{11};
  header.target_actor = nodes.answerer->self().actor;
  header.correlation = 99;
  nodes.right.loop.receive_remote(header, WireMessage{std::vector<std::byte>(3), {}});
  header.kind = 0x7FFF;
  nodes.right.loop.receive_remote(header, {});
  header.kind = Act::kKind;  // local only
  header.type = FrameType::kTell;
  nodes.right.loop.receive_remote(header, {});
  nodes.right.settle();
  REQUIRE(nodes.right.remote.sent.size() == 2);
  for (const auto& answer : nodes.right.remote.sent) {
    CHECK(answer.type == FrameType::kError);
    CHECK(answer.correlation == 99);
    CHECK(decode_error(answer.message.metadata).kind == ErrorKind::kMalformed);
  }
  CHECK(nodes.right.loop.dead_letter_count(ErrorKind::kMalformed) == 3);
}

TEST_CASE("an answer counts only from the node that was asked, for the actor that asked, and of the promised kind") {
  TwoNodes nodes;
  nodes.ask(1);
  nodes.left.settle();
  REQUIRE(nodes.left.remote.sent.size() == 1);
  const Outgoing sent = nodes.left.remote.sent[0];
  FrameHeader header;
  header.type = FrameType::kReply;
  header.kind = Number::kKind;
  header.source_node = NodeId{3};
  header.target_actor = nodes.asker->self().actor;
  header.correlation = sent.correlation;
  const auto wire = Codec<Number>::encode({1}).value();
  nodes.left.loop.receive_remote(header, wire);
  header.source_node = NodeId{2};
  header.target_actor.index += 1;
  nodes.left.loop.receive_remote(header, wire);
  nodes.left.settle();
  CHECK(nodes.outcomes.empty());
  CHECK(nodes.left.loop.dead_letter_count(ErrorKind::kMalformed) == 2);
  header.target_actor.index -= 1;
  header.kind = Question::kKind;
  nodes.left.loop.receive_remote(header, wire);
  nodes.left.settle();
  REQUIRE(nodes.outcomes.size() == 1);
  CHECK(nodes.outcomes[0].error().kind == ErrorKind::kMalformed);
}

TEST_CASE("peer_down completes what is outstanding there and nothing else") {
  TwoNodes nodes;
  nodes.answerer->keep = true;
  nodes.ask(1);
  nodes.ask(2);
  act(nodes.left.loop, *nodes.asker, [&] {
    nodes.asker->ask(ScribeRef{{NodeId{3}, {}, {2, 0, 0}}}, Question{3}, 10s).then([&](Outcome<Number> n) {
      nodes.outcomes.push_back(n);
    });
  });
  nodes.left.settle();
  nodes.left.loop.peer_down(NodeId{2}, {ErrorKind::kPeerDown, "node right left"});
  nodes.left.settle();
  REQUIRE(nodes.outcomes.size() == 2);
  for (const auto& outcome : nodes.outcomes) CHECK(describe(outcome.error()) == "peer_down: node right left");
  CHECK(nodes.left.loop.outstanding_asks() == 1);
}

struct Watching : TwoNodes {
  void watch(ActorRef whom) {
    act(left.loop, *asker, [this, whom] {
      asker->monitor(whom, [this](Down down) { downs.push_back(std::move(down)); });
    });
    settle();
  }
  std::vector<Down> downs;
};

TEST_CASE("a monitor hears once of a remote actor's end, and of its node's end it hears no more") {
  Watching nodes;
  nodes.watch(nodes.answerer->self());
  CHECK(nodes.downs.empty());
  act(nodes.right.loop, *nodes.answerer, [&] { nodes.answerer->fail({ErrorKind::kInternal, "out of ink"}); });
  nodes.settle();
  REQUIRE(nodes.downs.size() == 1);
  CHECK(nodes.downs[0].reason.text == "out of ink");
  CHECK(nodes.downs[0].actor == ActorRef{NodeId{2}, Incarnation{12}, {2, 1, 0}});
  nodes.left.loop.peer_down(NodeId{2}, {ErrorKind::kPeerDown, "left"});
  nodes.settle();
  CHECK(nodes.downs.size() == 1);
}

TEST_CASE("a monitor on a remote actor that is gone, or on a node that is, fires at once as a turn") {
  Watching nodes;
  nodes.watch({NodeId{2}, Incarnation{12}, {2, 9, 0}});
  REQUIRE(nodes.downs.size() == 1);
  CHECK(nodes.downs[0].reason.kind == ErrorKind::kNoActor);
  nodes.left.remote.refuse_with = Error{ErrorKind::kPeerDown, "node 3 left"};
  nodes.watch({NodeId{3}, Incarnation{12}, {2, 9, 0}});
  REQUIRE(nodes.downs.size() == 2);
  CHECK(nodes.downs[1].reason.kind == ErrorKind::kPeerDown);
}

TEST_CASE("a monitor hears once that the node went, and a late word from there is dropped") {
  Watching nodes;
  nodes.watch(nodes.answerer->self());
  nodes.right.loop.stop_actor(nodes.answerer->self().actor);
  nodes.left.loop.peer_down(NodeId{2}, {ErrorKind::kPeerDown, "left"});
  nodes.settle();  // brings the stop's word too
  REQUIRE(nodes.downs.size() == 1);
  CHECK(nodes.downs[0].reason.kind == ErrorKind::kPeerDown);
}

TEST_CASE("a watch that was lost with the wire is set again when the wire is up, and counts once") {
  Watching nodes;
  act(nodes.left.loop, *nodes.asker, [&] {
    for (int i = 0; i < 2; ++i) {
      nodes.asker->monitor(nodes.answerer->self(), [&](Down down) { nodes.downs.push_back(std::move(down)); });
    }
  });
  nodes.left.settle();
  REQUIRE(nodes.left.remote.sent.size() == 2);
  nodes.left.remote.sent.pop_back();  // lost; the other one arrives
  nodes.settle();
  nodes.left.loop.asks_lost(NodeId{2}, {ErrorKind::kPeerDown, "the wire broke"});
  nodes.left.loop.watch_again(NodeId{2});
  nodes.settle();
  CHECK(nodes.downs.empty());
  nodes.right.loop.stop_actor(nodes.answerer->self().actor);
  nodes.right.settle();
  CHECK(nodes.right.remote.sent.size() == 2);
  nodes.right.remote.sent.clear();  // the words of the end are lost too
  nodes.left.loop.watch_again(NodeId{2});
  nodes.settle();
  REQUIRE(nodes.downs.size() == 2);
  CHECK(nodes.downs[0].reason.kind == ErrorKind::kNoActor);
}

TEST_CASE("a watcher that ended is not told, and the watched node forgets it") {
  Watching nodes;
  nodes.watch(nodes.answerer->self());
  nodes.left.loop.stop_actor(nodes.asker->self().actor);
  nodes.settle();
  nodes.right.loop.stop_actor(nodes.answerer->self().actor);
  nodes.right.settle();
  CHECK(nodes.right.remote.sent.empty());
  CHECK(nodes.downs.empty());
}

TEST_CASE("what is no word of the runtime is a malformed dead letter") {
  TwoNodes nodes;
  FrameHeader header;
  header.source_node = NodeId{1};
  header.target_actor = nodes.answerer->self().actor;
  for (const std::size_t bytes : {0u, 1u, 8u, 9u}) {
    nodes.right.loop.receive_remote(header, WireMessage{std::vector<std::byte>(bytes), {}});
  }
  CHECK(nodes.right.loop.dead_letter_count(ErrorKind::kMalformed) == 4);
}

}  // namespace
}  // namespace consort::tests
