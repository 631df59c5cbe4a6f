// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "runtime/check.hpp"
#include "transport/ucx_worker-inl.hpp"

namespace consort::transport {

using runtime::Buffer;
using runtime::ErrorKind;
using runtime::failure;
using runtime::NodeId;

namespace {

constexpr std::size_t kMaxGreeted = 4096;  // endpoints that may talk to one worker: two per peer
constexpr std::size_t kCopyBelow = 1024;   // a copy of this size costs less than keeping UCX's descriptor
constexpr std::size_t kMaxPending =
    65536;  // frames of one endpoint and class that wait for the payload of an earlier one

}  // namespace

// From a callback. The answer goes out at once, because the reply endpoint is only known to live now.
void UcxLink::Worker::on_hello(std::span<const std::byte> bytes, ucp_ep_h reply) {
  Hello early;
  const auto hello = decode_hello(bytes, &early);
  if (reply == nullptr) return intake.count(FrameFault::kWrongHello);
  if (!hello.ok()) {
    intake.count(FrameFault::kWrongHello);
    if (hello.error().kind == ErrorKind::kInvalid && early.lane < kUcxLanes) {
      say(reply, {VerdictCode::kWrongVersion, early.lane, early.connection, node_});
    }
    return;
  }
  const auto refuse = [&](FrameFault fault, VerdictCode code) {
    intake.count(fault);
    say(reply, {code, hello->lane, hello->connection, node_});
  };
  if (hello->target_node != node_) return refuse(FrameFault::kWrongHello, VerdictCode::kWrongNode);
  if (!same_token(hello->token, token)) return refuse(FrameFault::kWrongToken, VerdictCode::kWrongToken);
  if (greeted_.size() >= kMaxGreeted && !greeted_.contains(reply))
    return refuse(FrameFault::kWrongHello, VerdictCode::kFull);
  auto& greeted = greeted_[reply];
  if (greeted != nullptr && greeted->number == hello->connection && greeted->damaged) {
    return say(reply, {VerdictCode::kDamaged, hello->lane, hello->connection, node_});
  }
  // A lane that is made anew: of the one before, whose end UCX may not tell, nothing more is heard.
  std::erase_if(greeted_, [&](const auto& entry) {
    if (entry.first == reply) return false;
    Greeted& other = *entry.second;
    const bool replaced = other.node == hello->source_node && other.lane == hello->lane &&
                          other.number != hello->connection && other.incarnation <= hello->source_incarnation;
    if (replaced) other.open = false;
    return replaced;
  });
  if (greeted == nullptr || greeted->number != hello->connection) {
    if (greeted != nullptr) greeted->open = false;  // the address of an endpoint that is no more
    greeted = std::make_shared<Greeted>();
    greeted->incarnation = hello->source_incarnation;
  }
  greeted->node = hello->source_node;
  greeted->earlier = std::exchange(greeted->incarnation, hello->source_incarnation);
  greeted->number = hello->connection;
  greeted->lane = hello->lane;
  greeted->windowed = hello->windowed;
  say(reply, {VerdictCode::kAccepted, hello->lane, hello->connection, node_});
}

// From a callback. The number of a connection is known to its two sides only.
void UcxLink::Worker::on_verdict(std::span<const std::byte> bytes) {
  const auto verdict = decode_verdict(bytes);
  if (!verdict.ok()) return intake.count(FrameFault::kWrongHello);
  const auto it = std::find_if(connections_.begin(), connections_.end(), [&](const auto& entry) {
    return entry.second->number == verdict->connection && entry.first == verdict->node;
  });
  if (it == connections_.end()) return;
  const auto& connection = it->second;
  if (verdict->code == VerdictCode::kTaken) {
    Lane& lane = connection->lanes[verdict->lane];
    lane.on_the_way -= std::min(lane.on_the_way, kTakenElements);
    if (!lane.waiting.empty()) opened_.push_back(connection);
    return;
  }
  if (verdict->code != VerdictCode::kAccepted)
    return fail(connection, "the peer says: " + std::string(name(verdict->code)));
  connection->lanes[verdict->lane].welcomed = true;
  const auto& lanes = connection->lanes;
  if (std::all_of(lanes.begin(), lanes.end(), [](const Lane& lane) { return lane.welcomed; }))
    welcomed_.push_back(connection);
}

// From a callback. INPROGRESS keeps `data` for us: a payload where it lies, or the descriptor of one to be fetched.
ucs_status_t UcxLink::Worker::on_frame(std::span<const std::byte> head, void* data, std::size_t length,
                                       const ucp_am_recv_param_t& param) {
  const auto it =
      (param.recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) != 0 ? greeted_.find(param.reply_ep) : greeted_.end();
  if (it == greeted_.end()) {
    intake.count(FrameFault::kNoHello);
    return UCS_OK;
  }
  Greeted& from = *it->second;
  if (from.damaged) {  // the endpoint lives now: whom our own lanes did not tell hears it here
    say(param.reply_ep, {VerdictCode::kDamaged, from.lane, from.number, node_});
    intake.count(FrameFault::kNoHello);
    return UCS_OK;
  }
  if (from.windowed) {
    from.elements += ring_elements(head.size(), length);
    for (; from.elements >= kTakenElements; from.elements -= kTakenElements) {
      say(param.reply_ep, {VerdictCode::kTaken, from.lane, from.number, node_});
    }
  }
  if (head.size() > runtime::kMaxHeadBytes) {
    intake.count(FrameFault::kOversized);
    return UCS_OK;
  }
  Arrival& arrival = arrivals_.emplace_back();
  arrival.from = it->second;
  arrival.head.assign(head.begin(), head.end());
  arrival.length = length;
  arrival.rendezvous = (param.recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0;
  if (arrival.rendezvous || (length >= kCopyBelow && (param.recv_attr & UCP_AM_RECV_ATTR_FLAG_DATA) != 0)) {
    arrival.data = data;
    return UCS_INPROGRESS;
  }
  if (length > 0) arrival.copied = Buffer::copy_of({static_cast<const std::byte*>(data), length});
  return UCS_OK;
}

void UcxLink::Worker::handle(Arrival arrival) {
  Buffer payload = std::move(arrival.copied);
  if (arrival.data != nullptr && !arrival.rendezvous) payload = adopt(arrival.data, arrival.length);
  const auto refuse_descriptor = [&] {
    if (arrival.rendezvous) ucp_am_data_release(worker_, arrival.data);
  };
  Greeted& from = *arrival.from;
  if (!from.open) {
    intake.count(FrameFault::kNoHello);
    return refuse_descriptor();
  }
  auto head = intake.open_head(arrival.head);
  if (!head.ok()) {
    refuse_descriptor();
    return end_damaged(from);
  }
  const auto said = head->header.source_incarnation;
  if (head->header.source_node != from.node || (said != from.incarnation && said != from.earlier)) {
    intake.count(FrameFault::kWrongSource);
    return refuse_descriptor();
  }
  if (const auto length = intake.expect_payload(*head, arrival.length); !length.ok()) {
    refuse_descriptor();
    if (length.error().kind == ErrorKind::kMalformed) return end_damaged(from);
    return answer(head->header, from.node, length.error());
  }
  const auto message_class = static_cast<std::size_t>(head->header.message_class);
  auto& pending = from.pending[message_class];
  if (!arrival.rendezvous && pending.empty()) {  // by far the most frequent
    auto frame = intake.open_payload(std::move(head).value(), std::move(payload));
    if (!frame.ok()) return end_damaged(from);
    return sink->on_frame(from.node, std::move(frame).value());
  }
  if (pending.size() >= kMaxPending) {
    intake.count(FrameFault::kNoMemory);
    refuse_descriptor();
    return answer(head->header, from.node, failure(ErrorKind::kExhausted, "too many frames wait behind one payload"));
  }
  auto inbound = std::make_shared<Inbound>();
  inbound->head = std::move(head).value();
  inbound->worker = this;
  inbound->payload = std::move(payload);
  inbound->ready = !arrival.rendezvous;
  pending.push_back(inbound);
  if (arrival.rendezvous) receive_rendezvous(inbound, arrival.data, arrival.length);
  deliver_ready(from, message_class);
}

void UcxLink::Worker::receive_rendezvous(const std::shared_ptr<Inbound>& inbound, void* descriptor,
                                         std::size_t length) {
  auto buffer =
      options_.pool != nullptr ? options_.pool->take(length) : runtime::Outcome<Buffer>(Buffer::allocate(length));
  if (!buffer.ok()) {
    ucp_am_data_release(worker_, descriptor);
    inbound->status = UCS_ERR_NO_MEMORY;
    inbound->ready = true;
    return;
  }
  inbound->payload = std::move(buffer).value();
  auto held = std::make_unique<std::shared_ptr<Inbound>>(inbound);  // UCX writes into the payload until it calls back
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  params.user_data = held.get();
  params.cb.recv_am = [](void* request, ucs_status_t status, size_t, void* user_data) {
    const std::unique_ptr<std::shared_ptr<Inbound>> mine(static_cast<std::shared_ptr<Inbound>*>(user_data));
    (*mine)->status = status;
    (*mine)->ready = true;
    (*mine)->worker->received_ = true;
    ucp_request_free(request);
  };
  const auto request = ucp_am_recv_data_nbx(worker_, descriptor, inbound->payload.mutable_bytes().data(),
                                            inbound->payload.size(), &params);
  if (request == nullptr || UCS_PTR_IS_ERR(request)) {
    inbound->status = request == nullptr ? UCS_OK : UCS_PTR_STATUS(request);
    inbound->ready = true;
    return;
  }
  (void)held.release();
}

// Delivers from the front while payloads are there: a class keeps its order whichever way UCX chose for each frame.
void UcxLink::Worker::deliver_ready(Greeted& from, std::size_t message_class) {
  auto& pending = from.pending[message_class];
  while (!pending.empty() && pending.front()->ready) {
    const auto inbound = std::move(pending.front());
    pending.pop_front();
    if (!from.open) continue;
    const auto header = inbound->head.header;
    if (inbound->status != UCS_OK) {
      intake.count(FrameFault::kNoMemory);
      answer(header, from.node,
             failure(inbound->status == UCS_ERR_NO_MEMORY ? ErrorKind::kExhausted : ErrorKind::kPeerDown,
                     std::string("the payload could not be fetched: ") + ucs_status_string(inbound->status)));
      continue;
    }
    auto frame = intake.open_payload(std::move(inbound->head), std::move(inbound->payload));
    if (!frame.ok()) {
      end_damaged(from);
      continue;
    }
    sink->on_frame(from.node, std::move(frame).value());
  }
}

// Both lanes of their connection end, and ours to them; both sides hear of it. An endpoint of theirs may be gone
// outside of its callbacks: they are told over our own lane, and by an answer to whatever comes next.
void UcxLink::Worker::end_damaged(Greeted& from) {
  const auto ours = connections_.find(from.node);
  const bool has_ours =
      ours != connections_.end() && !ours->second->failed && same_life(ours->second->incarnation, from.incarnation);
  for (const auto& [endpoint, greeted] : greeted_) {
    if (greeted->node != from.node || greeted->number != from.number) continue;
    greeted->open = false;
    greeted->damaged = true;
    if (has_ours) {
      say(ours->second->lanes[0].endpoint, {VerdictCode::kDamaged, greeted->lane, greeted->number, node_});
    }
  }
  if (has_ours) fail(ours->second, std::string(name(VerdictCode::kDamaged)));
}

void UcxLink::Worker::answer(const runtime::FrameHeader& header, NodeId from, const runtime::Error& error) {
  auto reply = intake.answer(header, error);
  if (!reply) return;
  if (!reply->to_sender) return sink->on_frame(from, std::move(reply->frame));
  if (!send(from, std::move(reply->frame)).ok()) intake.count(FrameFault::kNoAnswer);
}

// The buffer keeps the worker: UCX's descriptors are valid as long as it is.
Buffer UcxLink::Worker::adopt(void* data, std::size_t length) {
  return Buffer::adopt({static_cast<std::byte*>(data), length},
                       [self = shared_from_this(), data] { self->release(data); });
}

void UcxLink::Worker::release(void* data) {
  if (std::this_thread::get_id() == owner_.load(std::memory_order_relaxed)) return ucp_am_data_release(worker_, data);
  const std::lock_guard lock(release_mutex_);
  if (shut_) return ucp_am_data_release(worker_, data);
  released_.push_back(data);
  has_released_.store(true, std::memory_order_release);
}

bool UcxLink::Worker::drain_releases() {
  if (!has_released_.load(std::memory_order_acquire)) return false;
  std::vector<void*> released;
  {
    const std::lock_guard lock(release_mutex_);
    released.swap(released_);
    has_released_.store(false, std::memory_order_relaxed);
  }
  for (void* data : released) ucp_am_data_release(worker_, data);
  return true;
}

}  // namespace consort::transport
