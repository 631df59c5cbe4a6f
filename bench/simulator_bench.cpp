// How many events a second does a simulated world do? Tiny actors: asks within a node (a turn each way) and asks over a
// wire (frames encoded, checked and decoded), beside the same local asks on a bare event loop.
// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>

#include "runtime/actor.hpp"
#include "runtime/simulated/world.hpp"

namespace consort::runtime {
namespace {

struct Counted {
  static constexpr MessageKind kKind = 0x0F02;
  static constexpr MessageClass kClass = MessageClass::kDecode;
  std::uint64_t value = 0;
};
struct Count {
  static constexpr MessageKind kKind = 0x0F01;
  static constexpr MessageClass kClass = MessageClass::kDecode;
  using Reply = Counted;
  std::uint64_t value = 0;
};

template <class M>
struct NumberCodec {
  static Outcome<WireMessage> encode(const M& message) {
    WireMessage wire;
    wire.metadata.resize(sizeof message.value);
    std::memcpy(wire.metadata.data(), &message.value, sizeof message.value);
    return wire;
  }
  static Outcome<M> decode(std::span<const std::byte> metadata, Buffer) {
    M message;
    if (metadata.size() != sizeof message.value) return failure(ErrorKind::kMalformed, "not a number");
    std::memcpy(&message.value, metadata.data(), sizeof message.value);
    return message;
  }
};

}  // namespace
template <>
struct Codec<Counted> : NumberCodec<Counted> {};
template <>
struct Codec<Count> : NumberCodec<Count> {};
namespace {

using CounterProtocol = Protocol<Ask<Count>>;
class Counter final : public ActorOf<Counter, CounterProtocol> {
 public:
  void on(Count count, ReplyTo<Counted> reply) { reply.send(Counted{count.value + 1}); }
};

class Asker final : public ActorOf<Asker, Protocol<>> {
 public:
  Asker(RefTo<CounterProtocol> counter, std::uint64_t& answers) : counter_(counter), answers_(answers) {}

 private:
  void on_start() override { next(); }
  void next() {
    ask(counter_, Count{answers_}, std::chrono::seconds(1)).then([this](Outcome<Counted> answer) {
      if (answer.ok()) ++answers_;
      next();
    });
  }
  RefTo<CounterProtocol> counter_;
  std::uint64_t& answers_;
};

class Post final : public RemoteDelivery, public LinkSink {
 public:
  Post(EventLoop& loop, SimLink& link) : loop_(loop), link_(link) {
    link.attach(*this);
    loop.set_remote(this);
  }
  Status deliver(Outgoing outgoing) override {
    Frame frame;
    frame.header.message_class = outgoing.message_class;
    frame.header.type = outgoing.type;
    frame.header.kind = outgoing.kind;
    frame.header.source_node = outgoing.source.node;
    frame.header.source_incarnation = outgoing.source.incarnation;
    frame.header.source_actor = outgoing.source.actor;
    frame.header.target_incarnation = outgoing.target.incarnation;
    frame.header.target_actor = outgoing.target.actor;
    frame.header.correlation = outgoing.correlation;
    frame.metadata = std::move(outgoing.message.metadata);
    return link_.send(outgoing.target.node, std::move(frame));
  }
  void on_frame(NodeId, Frame frame) override {
    loop_.receive_remote(frame.header, {std::move(frame.metadata), std::move(frame.payload)});
  }
  void on_peer(NodeId, PeerChange, std::string_view) override {}

 private:
  EventLoop& loop_;
  SimLink& link_;
};

SimBoot boot() {
  return [](SimProcess& process) -> std::shared_ptr<void> {
    process.loop().spawn_root(1, 0, [] { return std::make_unique<Counter>(); });
    return std::make_shared<Post>(process.loop(), process.data());
  };
}

constexpr int kNodes = 4;
constexpr int kAskersPerNode = 4;
constexpr std::uint64_t kEvents = 2'000'000;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Events per second; `answers` counts what came back, which checks that they did something.
double simulated(bool over_wires, std::uint64_t& answers) {
  World world(1);
  std::vector<SimProcess*> nodes;
  for (std::uint32_t i = 1; i <= kNodes; ++i)
    nodes.push_back(&world.add_node("node" + std::to_string(i), NodeId(i), boot()));
  for (SimProcess* a : nodes) {
    for (SimProcess* b : nodes) {
      if (a != b) CONSORT_CHECK(a->data().connect(b->node(), {}, b->data().address(), b->data().token()).ok());
    }
  }
  world.run_for(std::chrono::milliseconds(1));
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const SimProcess& target = *nodes[over_wires ? (i + 1) % nodes.size() : i];
    const RefTo<CounterProtocol> counter{{target.node(), {}, ActorId{1, 0, 0}}};
    for (std::uint32_t k = 0; k < kAskersPerNode; ++k) {
      nodes[i]->loop().spawn_root(2, k, [counter, &answers] { return std::make_unique<Asker>(counter, answers); });
    }
  }
  const auto begin = std::chrono::steady_clock::now();
  const std::uint64_t first = world.event_count();
  CONSORT_CHECK(world.run_until([&] { return world.event_count() - first >= kEvents; }, "enough events").ok());
  return static_cast<double>(kEvents) / seconds_since(begin);
}

class RealClock final : public Clock {
 public:
  Instant now() const override { return Instant(std::chrono::steady_clock::now().time_since_epoch()); }
  std::int64_t unix_ns() const override { return 0; }
};
class NoTerminator final : public Terminator {
 public:
  void terminate(std::string_view) override { std::abort(); }
};

// Turns per second of a loop outside any world, in the same run.
double bare(std::uint64_t& answers) {
  RealClock clock;
  Rng rng(1);
  NoTerminator terminator;
  Trace trace;
  EventLoop loop(NodeId(1));
  Env env{clock, rng, loop, terminator, trace};
  loop.set_env(env);
  loop.spawn_root(1, 0, [] { return std::make_unique<Counter>(); });
  const RefTo<CounterProtocol> counter{{NodeId(1), {}, ActorId{1, 0, 0}}};
  for (std::uint32_t k = 0; k < kAskersPerNode; ++k) {
    loop.spawn_root(2, k, [counter, &answers] { return std::make_unique<Asker>(counter, answers); });
  }
  std::uint64_t turns = 0;
  loop.set_observer([&](ActorId, MessageKind) { ++turns; });
  const auto begin = std::chrono::steady_clock::now();
  while (turns < kEvents) loop.turn();
  return static_cast<double>(turns) / seconds_since(begin);
}

}  // namespace
}  // namespace consort::runtime

int main() {
  using namespace consort::runtime;
  std::uint64_t bare_answers = 0;
  std::uint64_t local_answers = 0;
  std::uint64_t wire_answers = 0;
  const double loop = bare(bare_answers);
  const double local = simulated(false, local_answers);
  const double wires = simulated(true, wire_answers);
  // Half of the local events are answers, a fourth of those over wires.
  CONSORT_CHECK(bare_answers > kEvents / 3 && local_answers > kEvents / 3 && wire_answers > kEvents / 5, bare_answers,
                local_answers, wire_answers);
  std::printf("bare loop        %6.2f M turns/s\n", loop / 1e6);
  std::printf("world, local     %6.2f M events/s  %.2fx of the bare loop\n", local / 1e6, local / loop);
  std::printf("world, wires     %6.2f M events/s  %.2fx of the bare loop\n", wires / 1e6, wires / loop);
  return 0;
}
