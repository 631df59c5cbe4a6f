// ZmqLink: what comes in: hellos, verdicts, frames, and the ends of connections. SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "transport/zmq_link-inl.hpp"

namespace consort::transport {

namespace {

constexpr int kMessagesPerPoll = 64;       // one turn's share, so that timers and actors keep theirs
constexpr std::size_t kMaxGreeted = 4096;  // connections that may talk to one process

bool is_client(NodeId node) { return node.value >= kFirstClientNode; }

}  // namespace

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

}  // namespace consort::transport
