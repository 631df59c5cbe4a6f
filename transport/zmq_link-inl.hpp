// ZmqLink::State: the sockets behind a ZmqLink, its connections out and those that greeted it. For zmq_*.cpp only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "transport/control_message.hpp"
#include "transport/link_hello.hpp"
#include "transport/wire_bytes.hpp"
#include "transport/zap_guard.hpp"
#include "transport/zmq_link.hpp"
#include "transport/zmq_socket-inl.hpp"

namespace consort::transport {

using runtime::Buffer;
using runtime::ErrorKind;
using runtime::failure;
using runtime::Frame;
using runtime::Incarnation;
using runtime::LinkAddress;
using runtime::LinkToken;
using runtime::NodeId;
using runtime::PeerChange;
using runtime::Status;

inline constexpr std::size_t kFirstSweep = 64;  // so many greeted connections are looked through for dead ones

// What ZeroMQ holds of one connection and has not yet written. ZeroMQ's thread counts it down.
struct Flow {
  std::array<std::atomic<std::size_t>, runtime::kMessageClassCount> frames{};
  std::array<std::atomic<std::size_t>, runtime::kMessageClassCount> bytes{};
};

inline ZmqPart tag_part(ControlTag tag) {
  const auto byte = static_cast<std::byte>(tag);
  return ZmqPart(std::span(&byte, 1));
}

struct ZmqLink::State {
  // Ours, to one peer.
  struct Connection {
    NodeId peer;
    Incarnation incarnation;
    std::uint64_t number = 0;
    LinkToken token{};
    std::shared_ptr<Flow> flow = std::make_shared<Flow>();
    std::unique_ptr<ZmqSocket> dealer;
    std::unique_ptr<ZmqSocket> monitor;
    bool up = false;
    bool closed = false;
  };
  // Theirs, by the routing id that our router gave it.
  struct Greeted {
    NodeId node;
    Incarnation incarnation;
    std::uint64_t number = 0;
    std::string key;
    std::shared_ptr<Flow> flow = std::make_shared<Flow>();
  };

  ~State();
  Status start();
  void watch(const ZmqSocket& socket);
  void greet(Connection& connection);
  void lose(const std::shared_ptr<Connection>& connection, std::string_view why);
  void close(const std::shared_ptr<Connection>& connection);
  bool reachable(const std::string& routing_id, const Greeted& greeted);
  void sweep();
  void say(const std::string& routing_id, const Verdict& verdict);
  Status send(NodeId peer, Frame frame);
  Status hand_over(Frame frame, ZmqSocket& socket, const std::string* routing_id, const std::shared_ptr<Flow>& flow);

  bool poll_router();
  bool poll_connection(const std::shared_ptr<Connection>& connection);
  bool poll_monitor(const std::shared_ptr<Connection>& connection);
  void on_hello(const std::string& routing_id, const std::string& key, Bytes body);
  void on_verdict(Bytes body);
  bool on_frame(NodeId from, Incarnation incarnation, Bytes body, ZmqPart* payload);
  void end_damaged(const std::string& routing_id);
  void answer(const runtime::FrameHeader& header, NodeId from, const runtime::Error& error);

  NodeId node;
  Incarnation incarnation;
  ZmqOptions options;
  LinkToken token = fresh_token();
  FrameIntake intake;
  runtime::LinkSink* sink = nullptr;
  void* context = nullptr;
  int epoll_fd = -1;
  std::unique_ptr<ZapGuard> guard;
  std::unique_ptr<ZmqSocket> router;
  std::string url;
  std::map<NodeId, std::shared_ptr<Connection>> connections;
  std::unordered_map<std::string, Greeted> greeted;
  std::map<NodeId, std::string> routes;  // of clients: the way back
  std::size_t next_sweep = kFirstSweep;
  std::uint64_t monitors = 0;
};

}  // namespace consort::transport
