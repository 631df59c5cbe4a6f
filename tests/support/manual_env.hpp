// A loop with a clock that stands still until it is told: how tests of actors run without time passing.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/actor.hpp"
#include "runtime/env.hpp"
#include "runtime/event_loop.hpp"
#include "runtime/trace.hpp"

namespace consort::tests {

class ManualClock final : public runtime::Clock {
 public:
  runtime::Instant now() const override { return now_; }
  std::int64_t unix_ns() const override { return now_.time_since_epoch().count(); }
  void advance(runtime::Duration by) { now_ += by; }
  void set(runtime::Instant when) { now_ = when; }

 private:
  runtime::Instant now_{std::chrono::seconds(1000)};
};

// Remembers what would have ended the process.
class NotedTerminator final : public runtime::Terminator {
 public:
  void terminate(std::string_view why) override { reasons.emplace_back(why); }
  std::vector<std::string> reasons;
};

// Keeps what leaves for other nodes, or hands it on.
class NotedDelivery final : public runtime::RemoteDelivery {
 public:
  runtime::Status deliver(runtime::Outgoing outgoing) override {
    if (refuse_with) return *refuse_with;
    sent.push_back(std::move(outgoing));
    return runtime::done();
  }
  std::vector<runtime::Outgoing> sent;
  std::optional<runtime::Error> refuse_with;
};

// One loop on the calling thread. Members may be replaced in env before the first turn.
struct ManualNode {
  explicit ManualNode(runtime::NodeId node = runtime::NodeId{1}, runtime::LoopLimits limits = {})
      : loop(node, limits), env{clock, rng, loop, terminator, trace} {
    loop.set_env(env);
    loop.set_remote(&remote);
  }
  // Turns until nothing is left to do at this time.
  void settle() {
    while (loop.turn()) {
    }
  }
  // Lets time pass, stopping at every timer on the way.
  void pass(runtime::Duration by) {
    const runtime::Instant until = clock.now() + by;
    settle();
    for (auto next = loop.next_timer(); next && *next <= until; next = loop.next_timer()) {
      clock.set(std::max(*next, clock.now()));
      settle();
    }
    clock.set(until);
    settle();
  }

  ManualClock clock;
  runtime::Rng rng{1};
  NotedTerminator terminator;
  runtime::Trace trace{1024};
  NotedDelivery remote;
  runtime::EventLoop loop;
  runtime::Env env;
};

// Turns a frame's worth of Outgoing into what the other node's loop receives.
inline runtime::FrameHeader header_of(const runtime::Outgoing& outgoing, runtime::Instant now) {
  runtime::FrameHeader header;
  header.message_class = outgoing.message_class;
  header.type = outgoing.type;
  header.kind = outgoing.kind;
  header.source_node = outgoing.source.node;
  header.source_incarnation = outgoing.source.incarnation;
  header.source_actor = outgoing.source.actor;
  header.target_incarnation = outgoing.target.incarnation;
  header.target_actor = outgoing.target.actor;
  header.epoch = outgoing.epoch;
  header.correlation = outgoing.correlation;
  if (outgoing.deadline != runtime::Instant::max()) {
    header.remaining_us = static_cast<std::uint32_t>((outgoing.deadline - now) / std::chrono::microseconds(1));
  }
  return header;
}

}  // namespace consort::tests
