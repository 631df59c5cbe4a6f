// LinkRig: two or more nodes with links of one kind, turned by the test's own thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/env.hpp"
#include "support/test.hpp"
#include "transport/loopback_link.hpp"
#include "transport/shaped_link.hpp"
#include "transport/ucx_link.hpp"
#include "transport/zmq_link.hpp"

namespace consort::tests {

using runtime::Buffer;
using runtime::Frame;
using runtime::FrameType;
using runtime::Incarnation;
using runtime::MessageClass;
using runtime::NodeId;
using runtime::PeerChange;
using transport::FrameFault;

// Long enough for a loaded machine under a sanitizer; a healthy link needs milliseconds.
inline constexpr auto kPatience = std::chrono::seconds(60);

struct Received {
  NodeId from;
  Frame frame;
};
struct Change {
  NodeId peer;
  PeerChange change;
  std::string why;
};
struct RecordingSink final : runtime::LinkSink {
  std::vector<Received> frames;
  std::vector<Change> changes;
  std::function<void(const Received&)> react;
  void on_frame(NodeId from, Frame frame) override {
    frames.push_back({from, std::move(frame)});
    if (react) react(Received(frames.back()));
  }
  void on_peer(NodeId peer, PeerChange change, std::string_view why) override { changes.push_back({peer, change, std::string(why)}); }
  int lost(NodeId peer) const {
    int n = 0;
    for (const auto& c : changes) n += c.peer == peer && c.change == PeerChange::kLost;
    return n;
  }
};

struct RigOptions {
  bool payload_crc = false;
  std::size_t queue_frames = 4096;
  std::size_t queue_bytes = std::size_t{64} << 20;
  transport::WireTamper tamper = {};
};

struct RigNode {
  NodeId node;
  Incarnation incarnation;
  RecordingSink sink;           // before the link: links may call it to the last
  std::shared_ptr<void> inner;  // what the link stands on
  std::unique_ptr<runtime::Link> link;
  std::vector<runtime::EventSource*> sources;
  std::function<const transport::LinkCounters&()> counters;
  std::function<void(Incarnation)> set_incarnation;

  bool poll() {
    bool did = false;
    for (auto* source : sources) did = source->poll() || did;
    return did;
  }
  std::uint64_t fault(FrameFault which) const { return counters().fault(which); }
};

using Nodes = std::vector<RigNode*>;

// Turns all nodes until `done`. False: not within kPatience.
inline bool turn_until(const Nodes& nodes, const std::function<bool()>& done,
                       std::chrono::milliseconds limit = std::chrono::duration_cast<std::chrono::milliseconds>(kPatience)) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!done()) {
    bool did = false;
    for (auto* node : nodes) did = node->poll() || did;
    if (std::chrono::steady_clock::now() > deadline) return done();
    if (!did) std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return true;
}
inline void turn_for(const Nodes& nodes, std::chrono::milliseconds time) {
  (void)turn_until(nodes, [] { return false; }, time);
}

inline runtime::Status connect(RigNode& from, const RigNode& to) {
  return from.link->connect(to.node, to.incarnation, to.link->address(), to.link->token());
}

// A frame as the post office would make it. The correlation carries a number for the test.
inline Frame make_frame(const RigNode& from, const RigNode& to, MessageClass message_class, std::uint64_t number,
                        std::size_t payload_bytes = 0, FrameType type = FrameType::kTell) {
  Frame frame;
  frame.header.message_class = message_class;
  frame.header.type = type;
  frame.header.kind = 0x0101;
  frame.header.source_node = from.node;
  frame.header.source_incarnation = from.incarnation;
  frame.header.source_actor = {3, 1, 7};
  frame.header.target_incarnation = to.incarnation;
  frame.header.target_actor = {4, 2, 9};
  frame.header.correlation = number;
  frame.metadata.assign(24, static_cast<std::byte>(number));
  if (payload_bytes > 0) {
    frame.payload = Buffer::allocate(payload_bytes);
    auto bytes = frame.payload.mutable_bytes();
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>((i * 131 + number * 29 + (i >> 9)) & 0xFF);
  }
  return frame;
}
inline bool same_bytes(const Buffer& a, const Buffer& b) {
  return a.size() == b.size() && std::equal(a.bytes().begin(), a.bytes().end(), b.bytes().begin());
}

struct LoopbackRig {
  std::shared_ptr<transport::LoopbackMesh> mesh = transport::make_loopback_mesh();
  std::unique_ptr<RigNode> make(NodeId id, Incarnation incarnation, RigOptions options = {}) {
    auto node = std::make_unique<RigNode>();
    node->node = id;
    node->incarnation = incarnation;
    auto link = std::make_unique<transport::LoopbackLink>(
        mesh, id, incarnation,
        transport::LoopbackOptions{options.queue_frames, options.queue_bytes, options.payload_crc, options.tamper});
    link->attach(node->sink);
    node->sources.push_back(link.get());
    node->counters = [l = link.get()]() -> const transport::LinkCounters& { return l->counters(); };
    node->set_incarnation = [l = link.get(), n = node.get()](Incarnation joined) {
      n->incarnation = joined;
      l->set_incarnation(joined);
    };
    node->link = std::move(link);
    return node;
  }
};

template <bool kTcp>
struct UcxRig {
  std::unique_ptr<RigNode> make(NodeId id, Incarnation incarnation, RigOptions options = {}) {
    transport::UcxOptions ucx;
    ucx.shared_memory = !kTcp;
    ucx.payload_crc = options.payload_crc ? transport::PayloadCrc::kOn : transport::PayloadCrc::kAuto;
    ucx.queue_frames = options.queue_frames;
    ucx.queue_bytes = options.queue_bytes;
    ucx.tamper = options.tamper;
    auto opened = transport::UcxLink::open(id, incarnation, std::move(ucx));
    REQUIRE_MESSAGE(opened.ok(), opened.error().text);
    auto node = std::make_unique<RigNode>();
    node->node = id;
    node->incarnation = incarnation;
    auto link = std::move(opened).value();
    link->attach(node->sink);
    node->sources.push_back(link.get());
    node->counters = [l = link.get()]() -> const transport::LinkCounters& { return l->counters(); };
    node->set_incarnation = [l = link.get(), n = node.get()](Incarnation joined) {
      n->incarnation = joined;
      l->set_incarnation(joined);
    };
    node->link = std::move(link);
    return node;
  }
};
struct UcxMemoryRig : UcxRig<false> {};
struct UcxTcpRig : UcxRig<true> {};

// Timers and a clock for links that need them, turned as an event source.
class TestTimers final : public runtime::Timers, public runtime::Clock, public runtime::EventSource {
 public:
  runtime::Instant now() const override {
    return runtime::Instant(std::chrono::duration_cast<runtime::Duration>(std::chrono::steady_clock::now().time_since_epoch()));
  }
  std::int64_t unix_ns() const override { return 0; }
  runtime::TimerId at(runtime::Instant when, std::function<void()> callback) override {
    due_.emplace(std::pair(when, ++last_), std::move(callback));
    return last_;
  }
  void cancel(runtime::TimerId id) override {
    std::erase_if(due_, [&](const auto& entry) { return entry.first.second == id; });
  }
  bool poll() override {
    bool did = false;
    while (!due_.empty() && due_.begin()->first.first <= now()) {
      auto callback = std::move(due_.begin()->second);
      due_.erase(due_.begin());
      callback();
      did = true;
    }
    return did;
  }

 private:
  runtime::TimerId last_ = 0;
  std::map<std::pair<runtime::Instant, runtime::TimerId>, std::function<void()>> due_;
};

struct ShapedRig {
  transport::LinkShape shape{std::chrono::microseconds(300), 1'000'000'000};
  LoopbackRig loopback;
  std::unique_ptr<RigNode> make(NodeId id, Incarnation incarnation, RigOptions options = {}) {
    struct Inner {
      TestTimers timers;
      std::unique_ptr<runtime::Link> link;
    };
    auto node = loopback.make(id, incarnation, options);
    auto inner = std::make_shared<Inner>();
    inner->link = std::move(node->link);
    auto link = std::make_unique<transport::ShapedLink>(*inner->link, inner->timers, inner->timers, shape,
                                                        transport::ShapedLimits{options.queue_frames, options.queue_bytes});
    link->attach(node->sink);
    node->sources.push_back(&inner->timers);
    node->link = std::move(link);
    node->inner = inner;
    return node;
  }
};

// Nodes 11, 22 and 33 are on the allow-list; each has one key through all its lives.
struct ZmqRig {
  std::map<std::uint32_t, transport::CurveKeys> keys;
  std::vector<transport::AllowedKey> allowed;
  ZmqRig() {
    for (const std::uint32_t id : {11u, 22u, 33u}) {
      keys[id] = transport::make_curve_keys();
      allowed.push_back({"node-" + std::to_string(id), transport::KeyRole::kNode, NodeId(id), keys[id].public_key});
    }
  }
  std::unique_ptr<RigNode> make(NodeId id, Incarnation incarnation, RigOptions options = {}) {
    transport::ZmqOptions zmq;
    zmq.bind = "tcp://127.0.0.1:0";
    zmq.keys = keys.at(id.value);
    zmq.allowed = allowed;
    zmq.queue_frames = options.queue_frames;
    zmq.queue_bytes = options.queue_bytes;
    zmq.payload_crc = options.payload_crc;
    zmq.tamper = options.tamper;
    return make(id, incarnation, std::move(zmq));
  }
  static std::unique_ptr<RigNode> make(NodeId id, Incarnation incarnation, transport::ZmqOptions options) {
    auto opened = transport::ZmqLink::open(id, incarnation, std::move(options));
    REQUIRE_MESSAGE(opened.ok(), opened.error().text);
    return wrap(id, incarnation, std::move(opened).value());
  }
  static std::unique_ptr<RigNode> wrap(NodeId id, Incarnation incarnation, std::unique_ptr<transport::ZmqLink> link) {
    auto node = std::make_unique<RigNode>();
    node->node = id;
    node->incarnation = incarnation;
    link->attach(node->sink);
    node->sources.push_back(link.get());
    node->counters = [l = link.get()]() -> const transport::LinkCounters& { return l->counters(); };
    node->set_incarnation = [l = link.get(), n = node.get()](Incarnation joined) {
      n->incarnation = joined;
      l->set_incarnation(joined);
    };
    node->link = std::move(link);
    return node;
  }
};

}  // namespace consort::tests
