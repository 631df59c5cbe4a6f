// UcxLink::Worker: the UCX worker behind a UcxLink, its connections out and its greeted endpoints in. For ucx_*.cpp
// only. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ucp/api/ucp.h>

#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "transport/link_hello.hpp"
#include "transport/ucx_link.hpp"

namespace consort::transport {

inline constexpr std::size_t kUcxLanes = 2;  // system and decode | bulk and background: a prefill never delays a token

// Shared memory has one ring of elements for all who send to a process. UCX 1.13 never lets go of endpoints whose peer
// died with a full ring, and then keeps the loop awake for ever. So between processes of one host a lane has at most
// kLaneWindow elements on the way; the receiver says kTaken for every kTakenElements. What more there is waits in the
// lane's own queue.
inline constexpr std::size_t kLaneWindow = 24;
inline constexpr std::size_t kTakenElements = 8;
// How many elements a message takes, at most: an eager one is cut into pieces, a rendezvous sends one.
constexpr std::size_t ring_elements(std::size_t head_bytes, std::size_t payload_bytes) {
  constexpr std::size_t kElementBytes = 8192;
  constexpr std::size_t kEagerBytes = 65536;
  const std::size_t bytes = head_bytes + payload_bytes;
  return 1 + (bytes < kEagerBytes ? bytes : kEagerBytes) / kElementBytes;
}

// Active message ids. Frames of every class share one id, so that one handler sees them in order.
enum UcxMessage : unsigned { kUcxHello = 1, kUcxVerdict = 2, kUcxFrame = 3 };

class UcxLink::Worker final : public std::enable_shared_from_this<UcxLink::Worker> {
 public:
  Worker(runtime::NodeId node, UcxOptions options);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  runtime::Status start();
  void shut_down();  // closes every endpoint and waits for their callbacks, at most kCloseDeadline

  void set_incarnation(runtime::Incarnation incarnation);
  runtime::Status connect(runtime::NodeId peer, runtime::Incarnation incarnation, const runtime::LinkAddress& address,
                          const runtime::LinkToken& token);
  void disconnect(runtime::NodeId peer);
  runtime::Status send(runtime::NodeId peer, runtime::Frame frame);
  bool poll();
  bool arm();

  runtime::LinkSink* sink = nullptr;
  runtime::LinkAddress address;
  const runtime::LinkToken token = fresh_token();
  std::string settings;
  FrameIntake intake;
  int event_fd = -1;

  struct Connection;
  const Connection* find(runtime::NodeId peer) const;
  bool stuck() const { return stuck_; }
  std::size_t unfinished() const { return leaving_.size() + closing_.size(); }
  std::vector<std::string> transports(const Connection& connection) const;

 private:
  friend struct UcxCallbacks;
  struct Lane;
  struct Outbound;
  struct Inbound;
  struct Greeted;
  struct Arrival;

  // --- out (ucx_outbound.cpp) --------------------------------------------------------------------------------
  runtime::Status open_lane(Connection& connection, std::size_t lane, const void* worker_address);
  void greet(const std::shared_ptr<Connection>& connection);
  void post(Outbound* outbound);
  void pump(Lane& lane);
  void completed(Outbound* outbound, ucs_status_t status);
  void say(ucp_ep_h endpoint, const Verdict& verdict);
  void drop_waiting(Connection& connection);
  void leave(const std::shared_ptr<Connection>& connection);
  void fail(const std::shared_ptr<Connection>& connection, std::string why);
  void close_lane(Lane& lane);
  void close(const std::shared_ptr<Connection>& connection);
  void go_up(const std::shared_ptr<Connection>& connection);
  bool reap();  // closed endpoints whose callbacks have all come

  // --- in (ucx_inbound.cpp) ----------------------------------------------------------------------------------
  void on_hello(std::span<const std::byte> bytes, ucp_ep_h reply);
  void on_verdict(std::span<const std::byte> bytes);
  ucs_status_t on_frame(std::span<const std::byte> head, void* data, std::size_t length,
                        const ucp_am_recv_param_t& param);
  void handle(Arrival arrival);
  void receive_rendezvous(const std::shared_ptr<Inbound>& inbound, void* descriptor, std::size_t length);
  void deliver_ready(Greeted& from, std::size_t message_class);
  void end_damaged(Greeted& from);
  void answer(const runtime::FrameHeader& header, runtime::NodeId from, const runtime::Error& error);
  runtime::Buffer adopt(void* data, std::size_t length);
  void release(void* data);
  bool drain_releases();

  const runtime::NodeId node_;
  runtime::Incarnation incarnation_;
  UcxOptions options_;
  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  const unsigned long long host_;

  std::map<runtime::NodeId, std::shared_ptr<Connection>> connections_;
  std::deque<std::shared_ptr<Connection>> leaving_;  // to be closed when their last bytes are out
  std::vector<std::shared_ptr<Connection>> closing_;
  std::vector<std::shared_ptr<Connection>> welcomed_;  // by a verdict, since the last poll
  std::vector<std::shared_ptr<Connection>> opened_;    // windows that a verdict opened, since the last poll
  std::vector<std::shared_ptr<Connection>> failed_;    // by a callback, since the last poll
  std::vector<void*> close_requests_;
  std::vector<std::unique_ptr<Outbound>> idle_;  // kept for reuse

  std::optional<std::chrono::steady_clock::time_point> busy_since_;  // UCX says busy, and nothing moves
  bool stuck_ = false;

  std::unordered_map<ucp_ep_h, std::shared_ptr<Greeted>> greeted_;
  std::deque<Arrival> arrivals_;
  bool received_ = false;  // one has completed since the last poll

  // Buffers end on any thread, UCX is called on one: the others leave what they held here.
  std::atomic<std::thread::id> owner_;
  std::mutex release_mutex_;
  std::vector<void*> released_;
  std::atomic<bool> has_released_{false};
  bool shut_ = false;  // under release_mutex_: no thread owns the worker any more
};

// One of the endpoints to a peer. Callbacks hold its address: it lives until `close` has completed.
struct UcxLink::Worker::Lane {
  Connection* connection = nullptr;
  std::uint8_t index = 0;
  ucp_ep_h endpoint = nullptr;
  bool welcomed = false;
  bool broken = false;            // UCX said so
  bool checked = true;            // payloads carry their CRC32C
  std::deque<Outbound*> waiting;  // until both lanes were welcomed, or for the window
  std::size_t on_the_way = 0;     // ring elements not yet taken
};

// Ours, to one peer.
struct UcxLink::Worker::Connection : std::enable_shared_from_this<Connection> {
  Worker* worker = nullptr;
  runtime::NodeId peer;
  runtime::Incarnation incarnation;
  std::uint64_t number = 0;
  runtime::LinkToken token{};
  bool same_host = false;  // then its lanes are windowed
  bool up = false;
  bool failed = false;
  bool left = false;  // its end is under way: a failure is no news
  bool closed = false;
  std::string why;
  std::array<Lane, kUcxLanes> lanes;
  struct Queued {
    std::size_t frames = 0;
    std::size_t bytes = 0;
  };
  std::array<Queued, runtime::kMessageClassCount> queued;
  std::size_t outstanding = 0;  // given to UCX, not yet completed
  std::size_t flushing = 0;     // lanes whose last bytes are not out
  int quiet_rounds = 0;         // turns to wait after that
};

// A message on its way out: UCX 1.13 needs the header bytes until the send completes.
struct UcxLink::Worker::Outbound {
  std::shared_ptr<Connection> connection;  // null: a verdict, nobody waits for it
  std::vector<std::byte> head;
  runtime::Buffer payload;
  std::array<std::byte, 4> trailer{};
  std::array<ucp_dt_iov_t, 2> pieces{};
  Lane* lane = nullptr;
  unsigned message = kUcxFrame;
  bool checked = false;
  std::uint8_t message_class = 0;
  std::size_t charged_bytes = 0;
  std::size_t elements = 0;
};

// A frame whose payload is being fetched, or that waits behind one to keep its class in order.
struct UcxLink::Worker::Inbound {
  runtime::Head head;
  runtime::Buffer payload;
  Worker* worker = nullptr;
  bool ready = false;
  ucs_status_t status = UCS_OK;
};

// An endpoint of a peer that said a valid hello.
struct UcxLink::Worker::Greeted {
  runtime::NodeId node;
  runtime::Incarnation incarnation;
  runtime::Incarnation earlier;  // before it joined: what it said then may still be under way
  std::uint64_t number = 0;
  std::uint8_t lane = 0;
  bool windowed = false;
  std::size_t elements = 0;  // received and not yet told
  bool open = true;
  bool damaged = false;  // a frame came damaged: what else comes is answered by that verdict
  std::array<std::deque<std::shared_ptr<Inbound>>, runtime::kMessageClassCount> pending;
};

// What a callback noted, for poll() to handle outside UCX.
struct UcxLink::Worker::Arrival {
  std::shared_ptr<Greeted> from;
  std::vector<std::byte> head;
  void* data = nullptr;  // a descriptor that UCX keeps for us
  std::size_t length = 0;
  bool rendezvous = false;
  runtime::Buffer copied;
};

}  // namespace consort::transport
