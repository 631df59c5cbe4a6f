// SPDX-License-Identifier: Apache-2.0
#include "transport/zmq_link.hpp"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <unordered_map>
#include <utility>

#include "runtime/check.hpp"
#include "transport/control_message.hpp"
#include "transport/link_hello.hpp"
#include "transport/wire_bytes.hpp"
#include "transport/zap_guard.hpp"
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

namespace {

constexpr int kMessagesPerPoll = 64;        // one turn's share, so that timers and actors keep theirs
constexpr int kHeartbeatIntervalMs = 1000;  // a stopped peer is noticed after the timeout
// ZeroMQ looks at its clock before it reads: a thread that had no processor for so long ends a living connection. Who
// lives is the cluster's business and known in 2 s; this is for hosts that vanished.
constexpr int kHeartbeatTimeoutMs = 20000;
constexpr int kHandshakeMs = 5000;  // a stranger that connects and says nothing
constexpr int kReconnectMs = 100;   // while nobody listens there yet
constexpr int kReconnectMaxMs = 1000;
constexpr int kConnectTimeoutMs = 3000;
constexpr int kReceiveHighWater = 1000;    // messages of one peer that wait in ZeroMQ; beyond it TCP holds it back
constexpr std::size_t kMaxGreeted = 4096;  // connections that may talk to one process
constexpr std::size_t kFirstSweep = 64;    // so many greeted connections are looked through for dead ones
constexpr int kCurveOverheadBytes = 128;   // a sealed message is 33 bytes longer; the limit is for the sealed one
constexpr const char* kZapDomain = "consort";

// What ZeroMQ holds of one connection and has not yet written. ZeroMQ's thread counts it down.
struct Flow {
  std::array<std::atomic<std::size_t>, runtime::kMessageClassCount> frames{};
  std::array<std::atomic<std::size_t>, runtime::kMessageClassCount> bytes{};
};
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

ZmqPart tag_part(ControlTag tag) {
  const auto byte = static_cast<std::byte>(tag);
  return ZmqPart(std::span(&byte, 1));
}

bool is_client(NodeId node) { return node.value >= kFirstClientNode; }

}  // namespace

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

ZmqLink::State::~State() {
  connections.clear();
  router.reset();
  guard.reset();
  if (context != nullptr) zmq_ctx_term(context);
  if (epoll_fd >= 0) ::close(epoll_fd);
}

Status ZmqLink::State::start() {
  if (!is_key_text(options.keys.public_key) || !is_key_text(options.keys.secret_key)) {
    return failure(ErrorKind::kInvalid, "the control plane needs a CURVE key pair");
  }
  context = zmq_ctx_new();
  epoll_fd = ::epoll_create1(EPOLL_CLOEXEC);
  CONSORT_CHECK(context != nullptr && epoll_fd >= 0);
  if (options.bind.empty()) return runtime::done();
  for (const char* everywhere : {"*", "0.0.0.0", "[::]"}) {
    if (options.bind.find(everywhere) != std::string::npos) {
      return failure(ErrorKind::kInvalid, options.bind + " would listen on every interface: name one address");
    }
  }
  guard = std::make_unique<ZapGuard>(context);
  guard->set_allowed(options.allowed);
  watch(guard->socket());
  router = std::make_unique<ZmqSocket>(context, ZMQ_ROUTER);
  router->set(ZMQ_ROUTER_MANDATORY, 1);
  router->set(ZMQ_CURVE_SERVER, 1);
  router->set(ZMQ_CURVE_SECRETKEY, options.keys.secret_key);
  router->set(ZMQ_ZAP_DOMAIN, kZapDomain);
  router->set(ZMQ_HANDSHAKE_IVL, kHandshakeMs);
  router->set(ZMQ_RCVHWM, kReceiveHighWater);
  router->set(ZMQ_SNDHWM, static_cast<int>(options.queue_frames) * runtime::kMessageClassCount);
  router->set(ZMQ_HEARTBEAT_IVL, kHeartbeatIntervalMs);
  router->set(ZMQ_HEARTBEAT_TIMEOUT, kHeartbeatTimeoutMs);
  router->set(ZMQ_HEARTBEAT_TTL, kHeartbeatTimeoutMs);
  router->set(ZMQ_TCP_KEEPALIVE, 1);
  router->set_long(ZMQ_MAXMSGSIZE, static_cast<std::int64_t>(options.max_payload_bytes) + kCurveOverheadBytes);
  if (zmq_bind(router->get(), options.bind.c_str()) != 0) {
    return failure(ErrorKind::kInvalid, "cannot listen on " + options.bind + ": " + zmq_strerror(errno));
  }
  url = router->text(ZMQ_LAST_ENDPOINT);
  watch(*router);
  return runtime::done();
}

void ZmqLink::State::watch(const ZmqSocket& socket) {
  epoll_event event{};
  event.events = EPOLLIN;
  CONSORT_CHECK(::epoll_ctl(epoll_fd, EPOLL_CTL_ADD, socket.fd(), &event) == 0);
}

// --- out ---------------------------------------------------------------------------------------------------------

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

// --- in ----------------------------------------------------------------------------------------------------------

bool ZmqLink::State::poll_router() {
  if (router == nullptr) return false;
  ZmqParts parts;
  int taken = 0;
  while (taken < kMessagesPerPoll && router->receive(parts)) {
    ++taken;
    std::vector<Bytes> views;
    for (std::size_t i = 1; i < parts.size(); ++i) views.push_back(parts[i].bytes());
    const auto message = read_control(views);
    const auto routing_id = parts[0].text();
    if (!message.ok()) {
      intake.count(FrameFault::kWrongHead);
      end_damaged(routing_id);
      continue;
    }
    const auto key = parts[1].property("User-Id");
    if (guard->find(key) == nullptr) {  // taken off the list while connected
      intake.count(FrameFault::kUnauthorised);
      continue;
    }
    if (message->tag == ControlTag::kHello) {
      on_hello(routing_id, key, message->body);
    } else if (const auto it = greeted.find(routing_id); it == greeted.end() || message->tag != ControlTag::kFrame) {
      intake.count(FrameFault::kNoHello);
    } else if (!on_frame(it->second.node, it->second.incarnation, message->body,
                         parts.size() == 4 ? &parts[3] : nullptr)) {
      end_damaged(routing_id);
    }
  }
  return taken > 0;
}

void ZmqLink::State::on_hello(const std::string& routing_id, const std::string& key, Bytes body) {
  Hello early;
  const auto hello = decode_hello(body, &early);
  if (!hello.ok()) {
    intake.count(FrameFault::kWrongHello);
    if (hello.error().kind == ErrorKind::kInvalid)
      say(routing_id, {VerdictCode::kWrongVersion, 0, early.connection, node});
    return;
  }
  const auto refuse = [&](FrameFault fault, VerdictCode code) {
    intake.count(fault);
    say(routing_id, {code, 0, hello->connection, node});
  };
  const AllowedKey& who = *guard->find(key);
  const NodeId source = hello->source_node;
  if (who.role == KeyRole::kNode ? source != who.node : !is_client(source)) {
    return refuse(FrameFault::kUnauthorised, VerdictCode::kUnauthorised);
  }
  if (hello->target_node != node) return refuse(FrameFault::kWrongHello, VerdictCode::kWrongNode);
  if (!same_token(hello->token, LinkToken{}) && !same_token(hello->token, token)) {
    return refuse(FrameFault::kWrongToken, VerdictCode::kWrongToken);
  }
  sweep();
  if (greeted.size() >= kMaxGreeted && !greeted.contains(routing_id))
    return refuse(FrameFault::kWrongHello, VerdictCode::kFull);
  if (is_client(source)) {
    const auto route = routes.find(source);
    if (route != routes.end() && route->second != routing_id) {
      const auto old = greeted.find(route->second);
      // An id in use by a living client of another key stays with it.
      if (old != greeted.end() && old->second.key != key && reachable(old->first, old->second))
        return refuse(FrameFault::kUnauthorised, VerdictCode::kUnauthorised);
      if (old != greeted.end()) greeted.erase(old);
    }
    routes[source] = routing_id;
  }
  auto& entry = greeted[routing_id];
  entry.node = source;
  entry.incarnation = hello->source_incarnation;
  entry.number = hello->connection;
  entry.key = key;
  say(routing_id, {VerdictCode::kAccepted, 0, hello->connection, node});
}

// A second "accepted" does no harm, and the router knows whom it cannot reach.
bool ZmqLink::State::reachable(const std::string& routing_id, const Greeted& who) {
  ZmqParts parts;
  parts.push_back(ZmqPart(std::as_bytes(std::span(routing_id))));
  parts.push_back(tag_part(ControlTag::kVerdict));
  parts.push_back(ZmqPart(encode_verdict({VerdictCode::kAccepted, 0, who.number, node})));
  return router->send(parts) != EHOSTUNREACH;
}

// ZeroMQ does not tell when a connection to the router ends: from time to time the dead are sorted out.
void ZmqLink::State::sweep() {
  if (greeted.size() < next_sweep) return;
  std::erase_if(greeted, [&](const auto& entry) { return !reachable(entry.first, entry.second); });
  std::erase_if(routes, [&](const auto& entry) { return !greeted.contains(entry.second); });
  next_sweep = std::max(kFirstSweep, 2 * greeted.size());
}

bool ZmqLink::State::poll_connection(const std::shared_ptr<Connection>& connection) {
  ZmqParts parts;
  int taken = 0;
  while (!connection->closed && taken < kMessagesPerPoll && connection->dealer->receive(parts)) {
    ++taken;
    std::vector<Bytes> views;
    for (const auto& part : parts) views.push_back(part.bytes());
    const auto message = read_control(views);
    if (!message.ok() || message->tag == ControlTag::kHello) {
      intake.count(FrameFault::kWrongHead);
      lose(connection, name(VerdictCode::kDamaged));
    } else if (message->tag == ControlTag::kVerdict) {
      on_verdict(message->body);
    } else if (!connection->up) {
      intake.count(FrameFault::kNoHello);
    } else if (!on_frame(connection->peer, connection->incarnation, message->body,
                         parts.size() == 3 ? &parts[2] : nullptr)) {
      lose(connection, name(VerdictCode::kDamaged));
    }
  }
  return taken > 0;
}

void ZmqLink::State::on_verdict(Bytes body) {
  const auto verdict = decode_verdict(body);
  if (!verdict.ok()) return intake.count(FrameFault::kWrongHello);
  const auto it = connections.find(verdict->node);
  if (it == connections.end() || it->second->number != verdict->connection) return;
  const auto connection = it->second;
  if (verdict->code != VerdictCode::kAccepted)
    return lose(connection, "the peer says: " + std::string(name(verdict->code)));
  if (std::exchange(connection->up, true)) return;
  sink->on_peer(connection->peer, PeerChange::kConnected, "");
}

// An incarnation of 0 means that the connecting side did not know it: then the header's is taken. False: it is damaged.
bool ZmqLink::State::on_frame(NodeId from, Incarnation expected, Bytes body, ZmqPart* payload_part) {
  auto head = intake.open_head(body);
  if (!head.ok()) return false;
  const auto said = head->header.source_incarnation;
  if (head->header.source_node != from || (expected.value != 0 && said != expected)) {
    intake.count(FrameFault::kWrongSource);
    return true;
  }
  const std::size_t payload_bytes = payload_part == nullptr ? 0 : payload_part->bytes().size();
  if (const auto length = intake.expect_payload(*head, payload_bytes); !length.ok()) {
    if (length.error().kind == ErrorKind::kMalformed) return false;
    answer(head->header, from, length.error());
    return true;
  }
  Buffer payload = payload_part == nullptr ? Buffer() : ZmqPart::to_buffer(std::move(*payload_part));
  auto frame = intake.open_payload(std::move(head).value(), std::move(payload));
  if (!frame.ok()) return false;
  sink->on_frame(from, std::move(frame).value());
  return true;
}

// A connection of theirs ends, and ours to them with it; both sides hear of it. So does this one of a client, which it
// knows by its connection alone.
void ZmqLink::State::end_damaged(const std::string& routing_id) {
  const auto it = greeted.find(routing_id);
  if (it == greeted.end()) return;
  const Greeted theirs = std::move(it->second);
  greeted.erase(it);
  say(routing_id, {VerdictCode::kDamaged, 0, theirs.number, node});
  const auto route = routes.find(theirs.node);
  const bool is_way_back = route != routes.end() && route->second == routing_id;
  if (is_way_back) routes.erase(route);
  const auto at = connections.find(theirs.node);
  if (at != connections.end() && same_life(at->second->incarnation, theirs.incarnation)) {
    const auto ours = at->second;
    connections.erase(at);
    close(ours);
  } else if (!is_way_back) {
    return;
  }
  sink->on_peer(theirs.node, PeerChange::kLost, name(VerdictCode::kDamaged));
}

void ZmqLink::State::answer(const runtime::FrameHeader& header, NodeId from, const runtime::Error& error) {
  auto reply = intake.answer(header, error);
  if (!reply) return;
  if (!reply->to_sender) return sink->on_frame(from, std::move(reply->frame));
  if (!send(from, std::move(reply->frame)).ok()) intake.count(FrameFault::kNoAnswer);
}

bool ZmqLink::State::poll_monitor(const std::shared_ptr<Connection>& connection) {
  ZmqParts parts;
  bool did = false;
  while (!connection->closed && connection->monitor->receive(parts)) {
    did = true;
    if (parts.empty() || parts[0].bytes().size() < 2) continue;
    switch (get<std::uint16_t>(parts[0].bytes(), 0)) {
      case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        lose(connection, "the peer does not allow this process's key");
        break;
      case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
      case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        lose(connection, "the CURVE handshake failed: is its public key right?");
        break;
      case ZMQ_EVENT_DISCONNECTED:
        lose(connection, "the connection ended");
        break;
      default:
        break;
    }
  }
  return did;
}

// --- the link ------------------------------------------------------------------------------------------------------

runtime::Outcome<std::unique_ptr<ZmqLink>> ZmqLink::open(NodeId node, Incarnation incarnation, ZmqOptions options) {
  auto state = std::make_unique<State>();
  state->node = node;
  state->options = std::move(options);
  state->incarnation = incarnation;
  state->intake.set_identity(node, incarnation);
  CONSORT_RETURN_IF_ERROR(state->start());
  return std::unique_ptr<ZmqLink>(new ZmqLink(std::move(state)));
}

ZmqLink::ZmqLink(std::unique_ptr<State> state) : state_(std::move(state)) {}
ZmqLink::~ZmqLink() = default;

void ZmqLink::set_incarnation(Incarnation incarnation) {
  state_->incarnation = incarnation;
  state_->intake.set_identity(state_->node, incarnation);
  for (const auto& [peer, connection] : state_->connections) state_->greet(*connection);
}

void ZmqLink::set_allowed(std::vector<AllowedKey> allowed) {
  if (state_->guard != nullptr) state_->guard->set_allowed(std::move(allowed));
}

const LinkCounters& ZmqLink::counters() const { return state_->intake.counters(); }
void ZmqLink::attach(runtime::LinkSink& sink) { state_->sink = &sink; }
LinkToken ZmqLink::token() const { return state_->token; }

LinkAddress ZmqLink::address() const {
  return state_->router == nullptr ? LinkAddress{} : make_address({state_->url, state_->options.keys.public_key});
}

LinkAddress ZmqLink::make_address(const Endpoint& endpoint) {
  const auto text = endpoint.url + ' ' + endpoint.public_key;
  const auto bytes = std::as_bytes(std::span(text));
  return {{bytes.begin(), bytes.end()}};
}

runtime::Outcome<ZmqLink::Endpoint> ZmqLink::parse_address(const LinkAddress& address) {
  constexpr std::size_t kMaxUrlBytes = 256;
  const std::string text(reinterpret_cast<const char*>(address.bytes.data()), address.bytes.size());
  const auto space = text.find(' ');
  if (space == std::string::npos || space > kMaxUrlBytes || !text.starts_with("tcp://") ||
      !is_key_text(text.substr(space + 1)) || text.find('\0') != std::string::npos) {
    return failure(ErrorKind::kInvalid, "a control address reads \"tcp://host:port <public key>\"");
  }
  return Endpoint{text.substr(0, space), text.substr(space + 1)};
}

Status ZmqLink::connect(NodeId peer, Incarnation incarnation, const LinkAddress& address, const LinkToken& token) {
  CONSORT_TRY(const auto endpoint, parse_address(address));
  if (const auto it = state_->connections.find(peer); it != state_->connections.end()) {
    if (it->second->incarnation == incarnation) return runtime::done();
    disconnect(peer);
  }
  // Incarnations only grow: what is left of an earlier life of the peer is no longer heard.
  std::erase_if(state_->greeted,
                [&](const auto& entry) { return entry.second.node == peer && entry.second.incarnation < incarnation; });
  auto connection = std::make_shared<State::Connection>();
  connection->peer = peer;
  connection->incarnation = incarnation;
  connection->number = fresh_connection();
  connection->token = token;
  connection->dealer = std::make_unique<ZmqSocket>(state_->context, ZMQ_DEALER);
  ZmqSocket& dealer = *connection->dealer;
  const auto& options = state_->options;
  dealer.set(ZMQ_CURVE_SERVERKEY, endpoint.public_key);
  dealer.set(ZMQ_CURVE_PUBLICKEY, options.keys.public_key);
  dealer.set(ZMQ_CURVE_SECRETKEY, options.keys.secret_key);
  dealer.set(ZMQ_HANDSHAKE_IVL, kHandshakeMs);
  dealer.set(ZMQ_CONNECT_TIMEOUT, kConnectTimeoutMs);
  dealer.set(ZMQ_RECONNECT_IVL, kReconnectMs);
  dealer.set(ZMQ_RECONNECT_IVL_MAX, kReconnectMaxMs);
  dealer.set(ZMQ_SNDHWM, 0);  // Flow bounds what waits here, by class and with its bytes
  dealer.set(ZMQ_RCVHWM, kReceiveHighWater);
  dealer.set(ZMQ_HEARTBEAT_IVL, kHeartbeatIntervalMs);
  dealer.set(ZMQ_HEARTBEAT_TIMEOUT, kHeartbeatTimeoutMs);
  dealer.set(ZMQ_HEARTBEAT_TTL, kHeartbeatTimeoutMs);
  dealer.set(ZMQ_TCP_KEEPALIVE, 1);
  dealer.set_long(ZMQ_MAXMSGSIZE, static_cast<std::int64_t>(options.max_payload_bytes) + kCurveOverheadBytes);
  const auto monitor_address = "inproc://monitor-" + std::to_string(++state_->monitors);
  constexpr int kEvents = ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                          ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
  CONSORT_CHECK(zmq_socket_monitor(dealer.get(), monitor_address.c_str(), kEvents) == 0, zmq_strerror(errno));
  connection->monitor = std::make_unique<ZmqSocket>(state_->context, ZMQ_PAIR);
  CONSORT_CHECK(zmq_connect(connection->monitor->get(), monitor_address.c_str()) == 0, zmq_strerror(errno));
  if (zmq_connect(dealer.get(), endpoint.url.c_str()) != 0) {
    return failure(ErrorKind::kInvalid, "cannot connect to " + endpoint.url + ": " + zmq_strerror(errno));
  }
  state_->watch(dealer);
  state_->watch(*connection->monitor);
  state_->connections[peer] = connection;
  state_->greet(*connection);
  return runtime::done();
}

void ZmqLink::disconnect(NodeId peer) {
  const auto it = state_->connections.find(peer);
  if (it != state_->connections.end()) {
    const auto connection = it->second;
    state_->connections.erase(it);
    return state_->close(connection);
  }
  if (const auto route = state_->routes.find(peer); route != state_->routes.end()) {
    if (const auto theirs = state_->greeted.find(route->second); theirs != state_->greeted.end()) {
      state_->say(theirs->first, {VerdictCode::kClosed, 0, theirs->second.number, state_->node});
      state_->greeted.erase(theirs);
    }
    state_->routes.erase(route);
  }
}

bool ZmqLink::connected(NodeId peer) const {
  const auto it = state_->connections.find(peer);
  return it != state_->connections.end() ? it->second->up : state_->routes.contains(peer);
}

Status ZmqLink::send(NodeId peer, Frame frame) { return state_->send(peer, std::move(frame)); }

bool ZmqLink::poll() {
  CONSORT_CHECK(state_->sink != nullptr, "attach a sink before polling");
  bool did = state_->guard != nullptr && state_->guard->poll();
  did = state_->poll_router() || did;
  std::vector<std::shared_ptr<State::Connection>> all;  // handlers may change the table
  for (const auto& [peer, connection] : state_->connections) all.push_back(connection);
  for (const auto& connection : all) {
    did = state_->poll_connection(connection) || did;
    did = state_->poll_monitor(connection) || did;
  }
  return did;
}

int ZmqLink::fd() const { return state_->epoll_fd; }

// The descriptors tell of changes only: what is there already must be asked for.
bool ZmqLink::arm() {
  if (state_->guard != nullptr && state_->guard->socket().readable()) return false;
  if (state_->router != nullptr && state_->router->readable()) return false;
  for (const auto& [peer, connection] : state_->connections) {
    if (connection->dealer->readable() || connection->monitor->readable()) return false;
  }
  return true;
}

}  // namespace consort::transport
