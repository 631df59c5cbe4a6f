// Two workers in one process, over loopback links, with a clock that the test moves.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "cluster/post_office.hpp"
#include "cluster/roles.hpp"
#include "runtime/actor.hpp"
#include "runtime/env.hpp"
#include "runtime/event_loop.hpp"
#include "runtime/trace.hpp"
#include "transport/loopback_link.hpp"

namespace consort::tests {

struct ManualClock final : runtime::Clock {
  runtime::Instant time{std::chrono::seconds(1)};
  runtime::Instant now() const override { return time; }
  std::int64_t unix_ns() const override { return 0; }
};

struct NotedEnd final : runtime::Terminator {
  std::string why;
  void terminate(std::string_view reason) override { why = reason; }
};

// A process with a data and a control link.
struct LoopNode {
  LoopNode(std::shared_ptr<transport::LoopbackMesh> mesh, ManualClock& clock, runtime::NodeId node,
           runtime::Incarnation incarnation, transport::LoopbackOptions data_options = {})
      : rng(node.value),
        control(mesh, node, incarnation),
        data(mesh, node, incarnation, std::move(data_options)),
        loop(node),
        env{clock, rng, loop, end, trace, nullptr, nullptr, nullptr, &control, &data} {
    loop.set_env(env);
    loop.set_incarnation(incarnation);
    post = std::make_unique<cluster::PostOffice>(loop);
    loop.add_source(control);
    loop.add_source(data);
  }
  runtime::Rng rng;
  NotedEnd end;
  runtime::Trace trace;
  transport::LoopbackLink control;
  transport::LoopbackLink data;
  runtime::EventLoop loop;
  runtime::Env env;
  std::unique_ptr<cluster::PostOffice> post;

  void connect(LoopNode& to) {
    (void)post->connect(cluster::Plane::kData, to.loop.node(), to.loop.incarnation(), to.data.address(),
                        to.data.token());
  }
};

}  // namespace consort::tests
