// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "runtime/check.hpp"
#include "transport/ucx_settings.hpp"
#include "transport/ucx_worker-inl.hpp"
#include "transport/wire_bytes.hpp"

namespace consort::transport {

using runtime::ErrorKind;
using runtime::failure;
using runtime::NodeId;
using runtime::PeerChange;
using runtime::Status;

namespace {

constexpr std::size_t kMaxLeaving = 16;    // stuck peers that were left; each keeps at most what its queues hold
constexpr int kQuietRounds = 16;
constexpr std::size_t kIdleOutbound = 64;  // what one turn of a busy loop has under way

std::size_t lane_of(runtime::MessageClass message_class) {
  return message_class == runtime::MessageClass::kSystem || message_class == runtime::MessageClass::kDecode ? 0 : 1;
}

}  // namespace

Status UcxLink::Worker::connect(NodeId peer, runtime::Incarnation incarnation, const runtime::LinkAddress& peer_address,
                                const runtime::LinkToken& peer_token) {
  const std::span<const std::byte> bytes = peer_address.bytes;
  // UCX trusts the addresses that it unpacks: damage is caught here.
  if (bytes.size() <= 12 || get<std::uint32_t>(bytes, 8) != runtime::crc32c(bytes.subspan(12))) {
    return failure(ErrorKind::kInvalid, "the data address of node " + std::to_string(peer.value) + " is damaged");
  }
  if (const auto it = connections_.find(peer); it != connections_.end()) {
    if (it->second->incarnation == incarnation && !it->second->failed) return runtime::done();
    disconnect(peer);
  }
  // Incarnations only grow: what is left of an earlier life of the peer is no longer heard.
  std::erase_if(greeted_, [&](const auto& entry) {
    const bool stale = entry.second->node == peer && entry.second->incarnation < incarnation;
    if (stale) entry.second->open = false;
    return stale;
  });
  auto connection = std::make_shared<Connection>();
  connection->worker = this;
  connection->peer = peer;
  connection->incarnation = incarnation;
  connection->number = fresh_connection();
  connection->token = peer_token;
  connection->same_host = get<std::uint64_t>(bytes, 0) == host_;
  for (std::size_t lane = 0; lane < kUcxLanes; ++lane) {
    if (auto opened = open_lane(*connection, lane, bytes.data() + 12); !opened.ok()) {
      close(connection);
      return opened;
    }
  }
  connections_[peer] = connection;
  greet(connection);
  return runtime::done();
}

Status UcxLink::Worker::open_lane(Connection& connection, std::size_t index, const void* worker_address) {
  Lane& lane = connection.lanes[index];
  lane.connection = &connection;
  lane.index = static_cast<std::uint8_t>(index);
  lane.checked = options_.payload_crc != PayloadCrc::kOff;
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = static_cast<const ucp_address_t*>(worker_address);
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.cb = [](void* arg, ucp_ep_h, ucs_status_t status) {
    static_cast<Lane*>(arg)->broken = true;
    auto& failed = *static_cast<Lane*>(arg)->connection;
    failed.worker->fail(failed.shared_from_this(), ucs_status_string(status));
  };
  params.err_handler.arg = &lane;
  const auto status = ucp_ep_create(worker_, &params, &lane.endpoint);
  if (status == UCS_OK) return runtime::done();
  lane.endpoint = nullptr;
  return failure(ErrorKind::kPeerDown, "UCX finds no way to node " + std::to_string(connection.peer.value) + ": " +
                                           ucs_status_string(status));
}

void UcxLink::Worker::greet(const std::shared_ptr<Connection>& connection) {
  for (Lane& lane : connection->lanes) {
    Hello hello;
    hello.lane = lane.index;
    hello.source_node = node_;
    hello.source_incarnation = incarnation_;
    hello.connection = connection->number;
    hello.token = connection->token;
    hello.target_node = connection->peer;
    hello.windowed = connection->same_host;
    const auto bytes = encode_hello(hello);
    auto outbound = std::make_unique<Outbound>();
    outbound->connection = connection;
    outbound->head.assign(bytes.begin(), bytes.end());
    if (options_.tamper) {
      std::vector<std::byte> none;
      options_.tamper(outbound->head, none);
    }
    outbound->lane = &lane;
    outbound->message = kUcxHello;
    post(outbound.release());
  }
}

Status UcxLink::Worker::send(NodeId peer, runtime::Frame frame) {
  const auto it = connections_.find(peer);
  if (it == connections_.end() || it->second->failed) {
    return failure(ErrorKind::kPeerDown, "no connection to node " + std::to_string(peer.value));
  }
  Connection& connection = *it->second;
  Lane& lane = connection.lanes[lane_of(frame.header.message_class)];
  const auto message_class = static_cast<std::size_t>(frame.header.message_class);
  auto& queued = connection.queued[message_class];
  const std::size_t charged = runtime::kFrameHeaderBytes + frame.metadata.size() + frame.payload.size();
  if (queued.frames > 0 && (queued.frames >= options_.queue_frames || queued.bytes + charged > options_.queue_bytes)) {
    return failure(ErrorKind::kExhausted, std::to_string(queued.frames) + " frames of this class already wait for node " +
                                              std::to_string(peer.value));
  }
  frame.header.payload_checked = lane.checked && !frame.payload.empty();
  CONSORT_TRY(auto head, runtime::encode_head(frame));

  std::unique_ptr<Outbound> outbound;
  if (idle_.empty()) {
    outbound = std::make_unique<Outbound>();
  } else {
    outbound = std::move(idle_.back());
    idle_.pop_back();
  }
  outbound->connection = it->second;
  outbound->head = std::move(head);
  outbound->payload = std::move(frame.payload);
  outbound->checked = frame.header.payload_checked;
  if (outbound->checked) outbound->trailer = runtime::payload_trailer(outbound->payload);
  if (options_.tamper) {
    const auto bytes = outbound->payload.bytes();
    std::vector<std::byte> flat(bytes.begin(), bytes.end());
    if (outbound->checked) flat.insert(flat.end(), outbound->trailer.begin(), outbound->trailer.end());
    options_.tamper(outbound->head, flat);
    outbound->payload = flat.empty() ? runtime::Buffer() : runtime::Buffer::copy_of(flat);
    outbound->checked = false;  // the trailer, if any, is part of the bytes now
  }
  outbound->lane = &lane;
  outbound->message = kUcxFrame;
  outbound->message_class = static_cast<std::uint8_t>(message_class);
  outbound->charged_bytes = charged;
  ++queued.frames;
  queued.bytes += charged;
  lane.waiting.push_back(outbound.release());
  if (connection.up) pump(lane);
  return runtime::done();
}

// An empty window takes a message of any size.
void UcxLink::Worker::pump(Lane& lane) {
  const bool windowed = lane.connection->same_host;
  while (!lane.waiting.empty()) {
    Outbound* outbound = lane.waiting.front();
    if (windowed) {
      outbound->elements = ring_elements(outbound->head.size(), outbound->payload.size() + (outbound->checked ? outbound->trailer.size() : 0));
      if (lane.on_the_way > 0 && lane.on_the_way + outbound->elements > kLaneWindow) return;
      lane.on_the_way += outbound->elements;
    }
    lane.waiting.pop_front();
    post(outbound);
  }
}

void UcxLink::Worker::post(Outbound* outbound) {
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
  params.flags = UCP_AM_SEND_FLAG_REPLY;  // so that the receiver knows the endpoint, and thereby who speaks
  params.user_data = outbound;
  params.cb.send = [](void* request, ucs_status_t status, void* user_data) {
    auto* sent = static_cast<Outbound*>(user_data);
    ucp_request_free(request);
    sent->connection->worker->completed(sent, status);
  };
  const auto payload = outbound->payload.bytes();
  const void* buffer = payload.data();
  std::size_t count = payload.size();
  if (outbound->checked) {
    outbound->pieces[0] = {const_cast<std::byte*>(payload.data()), payload.size()};
    outbound->pieces[1] = {outbound->trailer.data(), outbound->trailer.size()};
    params.op_attr_mask |= UCP_OP_ATTR_FIELD_DATATYPE;
    params.datatype = ucp_dt_make_iov();
    buffer = outbound->pieces.data();
    count = outbound->pieces.size();
  }
  ++outbound->connection->outstanding;
  const auto request =
      ucp_am_send_nbx(outbound->lane->endpoint, outbound->message, outbound->head.data(), outbound->head.size(), buffer, count, &params);
  if (request == nullptr) return completed(outbound, UCS_OK);
  if (UCS_PTR_IS_ERR(request)) return completed(outbound, UCS_PTR_STATUS(request));
}

void UcxLink::Worker::completed(Outbound* raw, ucs_status_t status) {
  std::unique_ptr<Outbound> outbound(raw);
  const auto connection = std::move(outbound->connection);
  --connection->outstanding;
  if (status != UCS_OK && status != UCS_ERR_CANCELED) fail(connection, ucs_status_string(status));
  if (outbound->message == kUcxFrame) {
    auto& queued = connection->queued[outbound->message_class];
    --queued.frames;
    queued.bytes -= outbound->charged_bytes;
    if (status == UCS_OK) {
      ++intake.counters().frames_sent;
      intake.counters().bytes_sent += outbound->charged_bytes;
    }
  }
  outbound->payload = {};
  if (idle_.size() < kIdleOutbound) idle_.push_back(std::move(outbound));
}

// A verdict is small and nobody waits for it; its bytes live until UCX is done with them.
void UcxLink::Worker::say(ucp_ep_h endpoint, const Verdict& verdict) {
  auto bytes = std::make_unique<std::array<std::byte, kVerdictBytes>>(encode_verdict(verdict));
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  params.user_data = bytes.get();
  params.cb.send = [](void* request, ucs_status_t, void* user_data) {
    ucp_request_free(request);
    delete static_cast<std::array<std::byte, kVerdictBytes>*>(user_data);
  };
  const auto request = ucp_am_send_nbx(endpoint, kUcxVerdict, bytes->data(), bytes->size(), nullptr, 0, &params);
  if (request != nullptr && !UCS_PTR_IS_ERR(request)) (void)bytes.release();
}

// Called from callbacks too: poll() does the rest.
void UcxLink::Worker::fail(const std::shared_ptr<Connection>& connection, std::string why) {
  if (connection->failed || connection->closed) return;
  connection->failed = true;
  connection->why = std::move(why);
  failed_.push_back(connection);
}

void UcxLink::Worker::go_up(const std::shared_ptr<Connection>& connection) {
  if (connection->up || connection->failed || connection->closed) return;
  connection->up = true;
  for (Lane& lane : connection->lanes) {
    const auto wires = active_message_transports(lane.endpoint);
    const bool shared = !wires.empty() && std::all_of(wires.begin(), wires.end(), is_shared_memory);
    if (options_.payload_crc == PayloadCrc::kAuto) lane.checked = !shared;
    const bool asked = options_.shared_memory && options_.transports.empty();
    if (asked && connection->same_host && !wires.empty() && !shared && options_.warn && lane.index == 0) {
      options_.warn("node " + std::to_string(connection->peer.value) + " is on this host, yet UCX reaches it over " + wires.front() +
                    ": shared memory was asked for and is missing there or here (see UCX_TLS, UCX_MM_ERROR_HANDLING and the size of /dev/shm)");
    }
  }
  // A waiting frame was encoded for a checked payload or not, and stays so.
  for (Lane& lane : connection->lanes) pump(lane);
  sink->on_peer(connection->peer, PeerChange::kConnected, "");
}

void UcxLink::Worker::disconnect(NodeId peer) {
  const auto it = connections_.find(peer);
  if (it == connections_.end()) return;
  const auto connection = it->second;
  connections_.erase(it);
  std::erase_if(greeted_, [&](const auto& entry) {
    Greeted& greeted = *entry.second;
    if (greeted.node != peer || greeted.incarnation != connection->incarnation) return false;
    greeted.open = false;
    // Over our own lane: theirs may be gone.
    if (!connection->failed) say(connection->lanes[0].endpoint, {VerdictCode::kClosed, greeted.lane, greeted.number, node_});
    return true;
  });
  leave(connection);
}

// UCX 1.13 must not close a TCP endpoint that waits to write: its socket stays open for reading, still registered for
// writing, and when the peer closes as well, UCX frees the endpoint between the two halves of one poll event. So a lane is
// closed when it was flushed and then quiet for some turns (UCX drops the registration in the turn after the last write),
// which takes milliseconds unless the peer is stuck; or at once where UCX itself has given it up.
void UcxLink::Worker::leave(const std::shared_ptr<Connection>& connection) {
  connection->left = true;
  connection->quiet_rounds = kQuietRounds;
  drop_waiting(*connection);
  for (Lane& lane : connection->lanes) {
    if (lane.broken) close_lane(lane);
    if (lane.endpoint == nullptr) continue;
    ucp_request_param_t params{};
    params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
    params.user_data = connection.get();
    params.cb.send = [](void* request, ucs_status_t, void* user_data) {
      ucp_request_free(request);
      --static_cast<Connection*>(user_data)->flushing;
    };
    ++connection->flushing;
    const auto request = ucp_ep_flush_nbx(lane.endpoint, &params);
    if (request == nullptr || UCS_PTR_IS_ERR(request)) --connection->flushing;
  }
  leaving_.push_back(connection);
  if (leaving_.size() > kMaxLeaving) {
    close(leaving_.front());
    leaving_.pop_front();
  }
}

void UcxLink::Worker::drop_waiting(Connection& connection) {
  for (Lane& lane : connection.lanes) {
    while (!lane.waiting.empty()) {
      Outbound* outbound = lane.waiting.front();
      lane.waiting.pop_front();
      ++connection.outstanding;
      completed(outbound, UCS_ERR_CANCELED);
    }
  }
}

// Forced: a peer that is dead or stopped answers nothing. Sends under way complete with an error, through their callbacks.
void UcxLink::Worker::close_lane(Lane& lane) {
  if (lane.endpoint == nullptr) return;
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  params.flags = UCP_EP_CLOSE_FLAG_FORCE;
  const auto request = ucp_ep_close_nbx(lane.endpoint, &params);
  if (request != nullptr && !UCS_PTR_IS_ERR(request)) close_requests_.push_back(request);
  lane.endpoint = nullptr;
}

void UcxLink::Worker::close(const std::shared_ptr<Connection>& connection) {
  connection->closed = true;
  drop_waiting(*connection);
  for (Lane& lane : connection->lanes) close_lane(lane);
  closing_.push_back(connection);
}

bool UcxLink::Worker::reap() {
  const auto finished = std::erase_if(close_requests_, [](void* request) {
    if (ucp_request_check_status(request) == UCS_INPROGRESS) return false;
    ucp_request_free(request);
    return true;
  });
  // Endpoints call back until all closes are through; then connections without sends under way may go.
  if (!closing_.empty() && close_requests_.empty()) {
    std::erase_if(closing_, [](const auto& connection) { return connection->outstanding == 0 && connection->flushing == 0; });
  }
  for (std::size_t i = leaving_.size(); i > 0; --i) {
    const auto connection = std::move(leaving_.front());
    leaving_.pop_front();
    for (Lane& lane : connection->lanes) {
      if (lane.broken) close_lane(lane);
    }
    if (connection->flushing == 0 && --connection->quiet_rounds <= 0) {
      close(connection);
    } else {
      leaving_.push_back(connection);
    }
  }
  return finished > 0;
}

const UcxLink::Worker::Connection* UcxLink::Worker::find(NodeId peer) const {
  const auto it = connections_.find(peer);
  return it == connections_.end() ? nullptr : it->second.get();
}

std::vector<std::string> UcxLink::Worker::transports(const Connection& connection) const {
  return connection.up && !connection.failed ? active_message_transports(connection.lanes[0].endpoint) : std::vector<std::string>{};
}

}  // namespace consort::transport
