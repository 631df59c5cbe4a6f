// ZmqLink: what goes out. SPDX-License-Identifier: Apache-2.0
#include "transport/zmq_link-inl.hpp"

namespace consort::transport {

namespace {

struct Leaving {
  std::shared_ptr<Flow> flow;
  std::size_t message_class = 0;
  std::size_t charged = 0;
  std::vector<std::byte> head;
  std::vector<std::byte> flat;  // the payload where it had to be copied
  Buffer payload;
  ~Leaving() {
    flow->frames[message_class].fetch_sub(1, std::memory_order_relaxed);
    flow->bytes[message_class].fetch_sub(charged, std::memory_order_relaxed);
  }
};

}  // namespace

void ZmqLink::State::greet(Connection& connection) {
  Hello hello;
  hello.source_node = node;
  hello.source_incarnation = incarnation;
  hello.connection = connection.number;
  hello.token = connection.token;
  hello.target_node = connection.peer;
  const auto encoded = encode_hello(hello);
  std::vector<std::byte> bytes(encoded.begin(), encoded.end());
  if (std::vector<std::byte> none; options.tamper) options.tamper(bytes, none);
  ZmqParts parts;
  parts.push_back(tag_part(ControlTag::kHello));
  parts.push_back(ZmqPart(bytes));
  (void)connection.dealer->send(parts);  // its queue has no limit of ZeroMQ's
}

Status ZmqLink::State::send(NodeId peer, Frame frame) {
  if (const auto it = connections.find(peer); it != connections.end()) {
    return hand_over(std::move(frame), *it->second->dealer, nullptr, it->second->flow);
  }
  const auto route = routes.find(peer);
  if (route == routes.end())
    return failure(ErrorKind::kPeerDown, "no connection to node " + std::to_string(peer.value));
  const auto it = greeted.find(route->second);
  if (it == greeted.end()) return failure(ErrorKind::kPeerDown, "client " + std::to_string(peer.value) + " has gone");
  auto status = hand_over(std::move(frame), *router, &route->second, it->second.flow);
  if (!status.ok() && status.error().kind == ErrorKind::kPeerDown) {
    greeted.erase(it);
    routes.erase(route);
  }
  return status;
}

Status ZmqLink::State::hand_over(Frame frame, ZmqSocket& socket, const std::string* routing_id,
                                 const std::shared_ptr<Flow>& flow) {
  if (frame.payload.size() + sizeof(std::uint32_t) > options.max_payload_bytes) {
    return failure(ErrorKind::kExhausted, "a payload of " + std::to_string(frame.payload.size()) +
                                              " bytes; the control plane takes " +
                                              std::to_string(options.max_payload_bytes));
  }
  const auto message_class = static_cast<std::size_t>(frame.header.message_class);
  const auto frames = flow->frames[message_class].load(std::memory_order_relaxed);
  const auto bytes = flow->bytes[message_class].load(std::memory_order_relaxed);
  const std::size_t charged = runtime::kFrameHeaderBytes + frame.metadata.size() + frame.payload.size();
  if (frames > 0 && (frames >= options.queue_frames || bytes + charged > options.queue_bytes)) {
    return failure(ErrorKind::kExhausted, std::to_string(frames) + " frames of this class already wait");
  }
  frame.header.payload_checked = options.payload_crc && !frame.payload.empty();
  CONSORT_TRY(auto head, runtime::encode_head(frame));
  flow->frames[message_class].fetch_add(1, std::memory_order_relaxed);
  flow->bytes[message_class].fetch_add(charged, std::memory_order_relaxed);
  auto leaving = std::make_shared<Leaving>();
  leaving->flow = flow;
  leaving->message_class = message_class;
  leaving->charged = charged;
  leaving->head = std::move(head);
  leaving->payload = std::move(frame.payload);
  Bytes payload = leaving->payload.bytes();
  if (options.tamper || frame.header.payload_checked) {
    leaving->flat.assign(payload.begin(), payload.end());
    if (frame.header.payload_checked) {
      const auto trailer = runtime::payload_trailer(leaving->payload);
      leaving->flat.insert(leaving->flat.end(), trailer.begin(), trailer.end());
    }
    if (options.tamper) options.tamper(leaving->head, leaving->flat);
    payload = leaving->flat;
  }
  ZmqParts parts;
  if (routing_id != nullptr) parts.push_back(ZmqPart(std::as_bytes(std::span(*routing_id))));
  parts.push_back(tag_part(ControlTag::kFrame));
  parts.push_back(ZmqPart(leaving->head, leaving));
  if (!payload.empty()) parts.push_back(ZmqPart(payload, leaving));
  leaving.reset();
  switch (socket.send(parts)) {
    case 0:
      break;
    case EHOSTUNREACH:
      return failure(ErrorKind::kPeerDown, "the client has gone");
    default:
      return failure(ErrorKind::kExhausted, "the queue to the peer is full");
  }
  ++intake.counters().frames_sent;
  intake.counters().bytes_sent += charged;
  return runtime::done();
}

void ZmqLink::State::say(const std::string& routing_id, const Verdict& verdict) {
  ZmqParts parts;
  parts.push_back(ZmqPart(std::as_bytes(std::span(routing_id))));
  parts.push_back(tag_part(ControlTag::kVerdict));
  parts.push_back(ZmqPart(encode_verdict(verdict)));
  (void)router->send(parts);
}

void ZmqLink::State::close(const std::shared_ptr<Connection>& connection) {
  connection->closed = true;
  zmq_socket_monitor(connection->dealer->get(), nullptr, 0);
  // Their connection to us ends as well, in words. ZeroMQ removes closed descriptors from the epoll set by closing
  // them.
  std::erase_if(greeted, [&](const auto& entry) {
    if (entry.second.node != connection->peer || entry.second.incarnation != connection->incarnation) return false;
    say(entry.first, {VerdictCode::kClosed, 0, entry.second.number, node});
    routes.erase(entry.second.node);
    return true;
  });
  connection->monitor.reset();
  connection->dealer.reset();
}

void ZmqLink::State::lose(const std::shared_ptr<Connection>& connection, std::string_view why) {
  connection->closed = true;
  zmq_socket_monitor(connection->dealer->get(), nullptr, 0);
  connection->monitor.reset();
  connection->dealer.reset();
  connections.erase(connection->peer);
  sink->on_peer(connection->peer, PeerChange::kLost, why);
}

}  // namespace consort::transport
