// SPDX-License-Identifier: Apache-2.0
#include "transport/zmq_link.hpp"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "runtime/check.hpp"
#include "transport/zmq_link-inl.hpp"

namespace consort::transport {

namespace {

constexpr int kHeartbeatIntervalMs = 1000;  // a stopped peer is noticed after the timeout
// ZeroMQ looks at its clock before it reads: a thread that had no processor for so long ends a living connection. Who
// lives is the cluster's business and known in 2 s; this is for hosts that vanished.
constexpr int kHeartbeatTimeoutMs = 20000;
constexpr int kHandshakeMs = 5000;  // a stranger that connects and says nothing
constexpr int kReconnectMs = 100;   // while nobody listens there yet
constexpr int kReconnectMaxMs = 1000;
constexpr int kConnectTimeoutMs = 3000;
constexpr int kReceiveHighWater = 1000;   // messages of one peer that wait in ZeroMQ; beyond it TCP holds it back
constexpr int kCurveOverheadBytes = 128;  // a sealed message is 33 bytes longer; the limit is for the sealed one
constexpr const char* kZapDomain = "consort";

}  // namespace

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
