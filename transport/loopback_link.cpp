// SPDX-License-Identifier: Apache-2.0
#include "transport/loopback_link.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>

#include "runtime/check.hpp"
#include "transport/link_hello.hpp"
#include "transport/wire_bytes.hpp"

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

constexpr int kParcelsPerPoll = 64;        // one turn's share, so that timers and actors keep theirs
constexpr std::size_t kMaxGreeted = 4096;  // peers that may talk to one link

class Inbox;

struct Greeting {
  std::vector<std::byte> bytes;
  std::weak_ptr<Inbox> answer_to;
};
struct Parcel {
  std::uint64_t connection = 0;
  std::vector<std::byte> head;
  Buffer payload;
  std::size_t charged_bytes = 0;
  std::uint8_t message_class = 0;
};
struct Farewell {  // the connecting side leaves
  std::uint64_t connection = 0;
};
using Item = std::variant<Greeting, Verdict, Parcel, Farewell>;

// The receiving end of a link: any thread puts, the owner takes. Frames are bounded per connection and class; what
// establishes and ends connections is bounded by the number of connects.
class Inbox {
 public:
  Inbox() : event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) { CONSORT_CHECK(event_ >= 0, "eventfd"); }
  ~Inbox() { ::close(event_); }
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;

  int event() const { return event_; }

  void put(Item item) {
    const std::lock_guard lock(mutex_);
    append(std::move(item));
  }

  Status put_frame(Parcel parcel, const LoopbackOptions& limits) {
    const std::lock_guard lock(mutex_);
    auto& queued = queued_[parcel.connection][parcel.message_class];
    if (queued.frames > 0 &&
        (queued.frames >= limits.queue_frames || queued.bytes + parcel.charged_bytes > limits.queue_bytes)) {
      return failure(ErrorKind::kExhausted,
                     "the receiver has " + std::to_string(queued.frames) + " frames of this class waiting");
    }
    ++queued.frames;
    queued.bytes += parcel.charged_bytes;
    append(std::move(parcel));
    return runtime::done();
  }

  bool take(Item& item) {
    const std::lock_guard lock(mutex_);
    if (items_.empty()) return false;
    item = std::move(items_.front());
    items_.pop_front();
    if (const auto* parcel = std::get_if<Parcel>(&item)) {
      auto& queued = queued_[parcel->connection][parcel->message_class];
      --queued.frames;
      queued.bytes -= parcel->charged_bytes;
    } else if (const auto* farewell = std::get_if<Farewell>(&item)) {
      queued_.erase(farewell->connection);
    }
    return true;
  }

  // True: nothing waits and the event is cleared, so that the next put raises it.
  bool rest() {
    const std::lock_guard lock(mutex_);
    if (!items_.empty()) return false;
    std::uint64_t ignored = 0;
    [[maybe_unused]] const auto n = ::read(event_, &ignored, sizeof ignored);
    return true;
  }

 private:
  struct Queued {
    std::size_t frames = 0;
    std::size_t bytes = 0;
  };

  void append(Item item) {
    const bool was_empty = items_.empty();
    items_.push_back(std::move(item));
    if (!was_empty) return;
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto n = ::write(event_, &one, sizeof one);
  }

  const int event_;
  std::mutex mutex_;
  std::deque<Item> items_;
  std::unordered_map<std::uint64_t, std::array<Queued, runtime::kMessageClassCount>> queued_;
};

}  // namespace

class LoopbackMesh {
 public:
  std::uint64_t add(const std::shared_ptr<Inbox>& inbox) {
    const std::lock_guard lock(mutex_);
    const auto address = ++last_;
    inboxes_[address] = inbox;
    return address;
  }
  void remove(std::uint64_t address) {
    const std::lock_guard lock(mutex_);
    inboxes_.erase(address);
  }
  std::shared_ptr<Inbox> find(std::uint64_t address) const {
    const std::lock_guard lock(mutex_);
    const auto it = inboxes_.find(address);
    return it == inboxes_.end() ? nullptr : it->second.lock();
  }

 private:
  mutable std::mutex mutex_;
  std::uint64_t last_ = 0;
  std::unordered_map<std::uint64_t, std::weak_ptr<Inbox>> inboxes_;
};

std::shared_ptr<LoopbackMesh> make_loopback_mesh() { return std::make_shared<LoopbackMesh>(); }

struct LoopbackLink::State {
  struct Connection {
    Incarnation incarnation;
    std::uint64_t number = 0;
    std::shared_ptr<Inbox> inbox;
    LinkToken token{};
    bool up = false;
  };
  struct Greeted {
    NodeId node;
    Incarnation incarnation;
    std::weak_ptr<Inbox> inbox;
  };

  std::shared_ptr<LoopbackMesh> mesh;
  NodeId node;
  Incarnation incarnation;
  LoopbackOptions options;
  LinkToken token = fresh_token();
  std::shared_ptr<Inbox> inbox = std::make_shared<Inbox>();
  std::uint64_t address = 0;
  runtime::LinkSink* sink = nullptr;
  FrameIntake intake;
  std::map<NodeId, Connection> connections;            // ours, to peers
  std::unordered_map<std::uint64_t, Greeted> greeted;  // theirs, by the number in their hello

  void on(Greeting greeting);
  void on(Verdict verdict);
  void on(Parcel parcel);
  void on(Farewell farewell);
  void greet(NodeId peer, const Connection& connection);
  void drop(NodeId peer);
  void end_damaged(std::uint64_t number);
  void answer(const runtime::FrameHeader& header, NodeId from, const runtime::Error& error);
};

void LoopbackLink::State::on(Greeting greeting) {
  Hello early;
  auto hello = decode_hello(greeting.bytes, &early);
  if (!hello.ok()) {
    intake.count(FrameFault::kWrongHello);
    const auto peer = greeting.answer_to.lock();
    if (peer != nullptr && hello.error().kind == ErrorKind::kInvalid) {
      peer->put(Verdict{VerdictCode::kWrongVersion, 0, early.connection, node});
    }
    return;
  }
  VerdictCode code = VerdictCode::kAccepted;
  if (hello->target_node != node) {
    code = VerdictCode::kWrongNode;
    intake.count(FrameFault::kWrongHello);
  } else if (!same_token(hello->token, token)) {
    code = VerdictCode::kWrongToken;
    intake.count(FrameFault::kWrongToken);
  } else if (greeted.size() >= kMaxGreeted) {
    code = VerdictCode::kFull;
    intake.count(FrameFault::kWrongHello);
  } else {
    greeted[hello->connection] = {hello->source_node, hello->source_incarnation, greeting.answer_to};
  }
  if (const auto peer = greeting.answer_to.lock()) peer->put(Verdict{code, hello->lane, hello->connection, node});
}

void LoopbackLink::State::on(Verdict verdict) {
  const auto it = std::find_if(connections.begin(), connections.end(),
                               [&](const auto& entry) { return entry.second.number == verdict.connection; });
  if (it == connections.end()) return;
  const NodeId peer = it->first;
  if (verdict.code == VerdictCode::kAccepted) {
    if (std::exchange(it->second.up, true)) return;  // greeted again under a new incarnation
    return sink->on_peer(peer, PeerChange::kConnected, "");
  }
  connections.erase(it);
  sink->on_peer(peer, PeerChange::kLost, name(verdict.code));
}

void LoopbackLink::State::on(Parcel parcel) {
  const auto it = greeted.find(parcel.connection);
  if (it == greeted.end()) return intake.count(FrameFault::kNoHello);
  const Greeted from = it->second;
  auto head = intake.open_head(parcel.head);
  if (!head.ok()) return end_damaged(parcel.connection);
  if (head->header.source_node != from.node || head->header.source_incarnation != from.incarnation) {
    return intake.count(FrameFault::kWrongSource);
  }
  if (auto length = intake.expect_payload(*head, parcel.payload.size()); !length.ok()) {
    if (length.error().kind == ErrorKind::kMalformed) return end_damaged(parcel.connection);
    return answer(head->header, from.node, length.error());
  }
  auto frame = intake.open_payload(std::move(head).value(), std::move(parcel.payload));
  if (!frame.ok()) return end_damaged(parcel.connection);
  sink->on_frame(from.node, std::move(frame).value());
}

void LoopbackLink::State::on(Farewell farewell) { greeted.erase(farewell.connection); }

void LoopbackLink::State::greet(NodeId peer, const Connection& connection) {
  Hello hello;
  hello.source_node = node;
  hello.source_incarnation = incarnation;
  hello.connection = connection.number;
  hello.token = connection.token;
  hello.target_node = peer;
  const auto bytes = encode_hello(hello);
  Greeting greeting{{bytes.begin(), bytes.end()}, inbox};
  if (std::vector<std::byte> none; options.tamper) options.tamper(greeting.bytes, none);
  connection.inbox->put(std::move(greeting));
}

// Both directions end: the peer hears no more from us, and learns that we do not hear it.
void LoopbackLink::State::drop(NodeId peer) {
  const auto it = connections.find(peer);
  if (it == connections.end()) return;
  it->second.inbox->put(Farewell{it->second.number});
  std::erase_if(greeted, [&](const auto& entry) {
    const Greeted& theirs = entry.second;
    if (theirs.node != peer || theirs.incarnation != it->second.incarnation) return false;
    if (const auto inbox_of_peer = theirs.inbox.lock()) {
      inbox_of_peer->put(Verdict{VerdictCode::kClosed, 0, entry.first, node});
    }
    return true;
  });
  connections.erase(it);
}

// Both directions end, and both sides hear of it.
void LoopbackLink::State::end_damaged(std::uint64_t number) {
  const auto it = greeted.find(number);
  const Greeted theirs = it->second;
  greeted.erase(it);
  if (const auto peer = theirs.inbox.lock()) peer->put(Verdict{VerdictCode::kDamaged, 0, number, node});
  const auto ours = connections.find(theirs.node);
  if (ours == connections.end() || !same_life(ours->second.incarnation, theirs.incarnation)) return;
  drop(theirs.node);
  sink->on_peer(theirs.node, PeerChange::kLost, name(VerdictCode::kDamaged));
}

void LoopbackLink::State::answer(const runtime::FrameHeader& header, NodeId from, const runtime::Error& error) {
  auto reply = intake.answer(header, error);
  if (!reply) return;
  if (!reply->to_sender) return sink->on_frame(from, std::move(reply->frame));
  const auto it = connections.find(from);
  auto head = runtime::encode_head(reply->frame);
  if (it == connections.end() || !head.ok() ||
      !it->second.inbox
           ->put_frame(Parcel{it->second.number,
                              std::move(head).value(),
                              {},
                              runtime::kFrameHeaderBytes,
                              static_cast<std::uint8_t>(reply->frame.header.message_class)},
                       options)
           .ok()) {
    intake.count(FrameFault::kNoAnswer);
  }
}

LoopbackLink::LoopbackLink(std::shared_ptr<LoopbackMesh> mesh, NodeId node, Incarnation incarnation,
                           LoopbackOptions options)
    : state_(std::make_unique<State>()) {
  state_->mesh = std::move(mesh);
  state_->node = node;
  state_->options = std::move(options);
  state_->address = state_->mesh->add(state_->inbox);
  set_incarnation(incarnation);
}

LoopbackLink::~LoopbackLink() {
  while (!state_->connections.empty()) state_->drop(state_->connections.begin()->first);
  for (const auto& [number, theirs] : state_->greeted) {
    if (const auto inbox = theirs.inbox.lock()) inbox->put(Verdict{VerdictCode::kClosed, 0, number, state_->node});
  }
  state_->mesh->remove(state_->address);
}

void LoopbackLink::set_incarnation(Incarnation incarnation) {
  state_->incarnation = incarnation;
  state_->intake.set_identity(state_->node, incarnation);
  for (const auto& [peer, connection] : state_->connections) state_->greet(peer, connection);
}

const LinkCounters& LoopbackLink::counters() const { return state_->intake.counters(); }
void LoopbackLink::attach(runtime::LinkSink& sink) { state_->sink = &sink; }
LinkToken LoopbackLink::token() const { return state_->token; }

LinkAddress LoopbackLink::address() const {
  LinkAddress address;
  address.bytes.resize(sizeof state_->address);
  put(std::span(address.bytes), 0, state_->address);
  return address;
}

Status LoopbackLink::connect(NodeId peer, Incarnation incarnation, const LinkAddress& address, const LinkToken& token) {
  if (address.bytes.size() != sizeof state_->address) {
    return failure(ErrorKind::kInvalid,
                   "a loopback address has 8 bytes, this one " + std::to_string(address.bytes.size()));
  }
  const auto it = state_->connections.find(peer);
  if (it != state_->connections.end() && it->second.incarnation == incarnation) return runtime::done();
  state_->drop(peer);
  // Incarnations only grow: what is left of an earlier life of the peer is no longer heard.
  std::erase_if(state_->greeted,
                [&](const auto& entry) { return entry.second.node == peer && entry.second.incarnation < incarnation; });
  auto inbox = state_->mesh->find(get<std::uint64_t>(address.bytes, 0));
  if (inbox == nullptr) {
    return failure(ErrorKind::kPeerDown,
                   "no link of this process has the address of node " + std::to_string(peer.value));
  }
  auto& connection = state_->connections[peer];
  connection = {incarnation, fresh_connection(), std::move(inbox), token, false};
  state_->greet(peer, connection);
  return runtime::done();
}

void LoopbackLink::disconnect(NodeId peer) { state_->drop(peer); }

bool LoopbackLink::connected(NodeId peer) const {
  const auto it = state_->connections.find(peer);
  return it != state_->connections.end() && it->second.up;
}

// Frames may follow the hello at once: the receiver takes its items in order.
Status LoopbackLink::send(NodeId peer, Frame frame) {
  const auto it = state_->connections.find(peer);
  if (it == state_->connections.end()) {
    return failure(ErrorKind::kPeerDown, "no connection to node " + std::to_string(peer.value));
  }
  if (frame.payload.size() > runtime::kMaxPayloadBytes)
    return failure(ErrorKind::kExhausted, "the payload is beyond the limit of a frame");
  frame.header.payload_checked = state_->options.payload_crc && !frame.payload.empty();
  CONSORT_TRY(auto head, runtime::encode_head(frame));
  Buffer payload = frame.payload;
  if (frame.header.payload_checked || state_->options.tamper) {
    const auto bytes = payload.bytes();
    std::vector<std::byte> flat(bytes.begin(), bytes.end());
    if (frame.header.payload_checked) {
      const auto trailer = runtime::payload_trailer(payload);
      flat.insert(flat.end(), trailer.begin(), trailer.end());
    }
    if (state_->options.tamper) state_->options.tamper(head, flat);
    payload = flat.empty() ? Buffer() : Buffer::copy_of(flat);
  }
  const auto bytes = head.size() + payload.size();
  CONSORT_RETURN_IF_ERROR(
      it->second.inbox->put_frame(Parcel{it->second.number, std::move(head), std::move(payload), bytes,
                                         static_cast<std::uint8_t>(frame.header.message_class)},
                                  state_->options));
  ++state_->intake.counters().frames_sent;
  state_->intake.counters().bytes_sent += bytes;
  return runtime::done();
}

bool LoopbackLink::poll() {
  CONSORT_CHECK(state_->sink != nullptr, "attach a sink before polling");
  Item item;
  int taken = 0;
  while (taken < kParcelsPerPoll && state_->inbox->take(item)) {
    ++taken;
    std::visit([&](auto& what) { state_->on(std::move(what)); }, item);
  }
  return taken > 0;
}

int LoopbackLink::fd() const { return state_->inbox->event(); }
bool LoopbackLink::arm() { return state_->inbox->rest(); }

}  // namespace consort::transport
