// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <utility>

#include "runtime/check.hpp"
#include "transport/ucx_settings.hpp"
#include "transport/ucx_worker-inl.hpp"
#include "transport/wire_bytes.hpp"

namespace consort::transport {

using runtime::ErrorKind;
using runtime::failure;
using runtime::PeerChange;
using runtime::Status;

namespace {

constexpr auto kLeaveDeadline =
    std::chrono::milliseconds(100);  // for last words; a stuck peer does not hold up an exit
constexpr auto kCloseDeadline =
    std::chrono::seconds(1);                           // forced closes complete in microseconds, a dead wire included
constexpr auto kStuckAfter = std::chrono::seconds(1);  // a writer that is only preempted comes back sooner
constexpr int kProgressPerPoll = 64;                   // one turn's share, so that timers and actors keep theirs
constexpr std::size_t kFrameAlignment = 64;            // payloads are read as vectors where they lie

}  // namespace

// UCX calls these from within ucp_worker_progress: they note what happened and return.
struct UcxCallbacks {
  using Worker = UcxLink::Worker;

  static ucs_status_t hello(void* arg, const void* header, size_t header_length, void*, size_t,
                            const ucp_am_recv_param_t* param) {
    const auto reply = (param->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) != 0 ? param->reply_ep : nullptr;
    static_cast<Worker*>(arg)->on_hello({static_cast<const std::byte*>(header), header_length}, reply);
    return UCS_OK;
  }
  static ucs_status_t verdict(void* arg, const void* header, size_t header_length, void*, size_t,
                              const ucp_am_recv_param_t*) {
    static_cast<Worker*>(arg)->on_verdict({static_cast<const std::byte*>(header), header_length});
    return UCS_OK;
  }
  static ucs_status_t frame(void* arg, const void* header, size_t header_length, void* data, size_t length,
                            const ucp_am_recv_param_t* param) {
    return static_cast<Worker*>(arg)->on_frame({static_cast<const std::byte*>(header), header_length}, data, length,
                                               *param);
  }
};

UcxLink::Worker::Worker(runtime::NodeId node, UcxOptions options)
    : node_(node), options_(std::move(options)), host_(host_fingerprint()), owner_(std::this_thread::get_id()) {}

UcxLink::Worker::~Worker() {
  if (worker_ != nullptr) ucp_worker_destroy(worker_);
  if (context_ != nullptr) ucp_cleanup(context_);
}

void UcxLink::Worker::set_incarnation(runtime::Incarnation incarnation) {
  incarnation_ = incarnation;
  intake.set_identity(node_, incarnation);
  for (const auto& [peer, connection] : connections_) {
    if (!connection->failed) greet(connection);
  }
}

Status UcxLink::Worker::start() {
  CONSORT_TRY(auto opened, open_ucx(options_.transports, options_.shared_memory, options_.net_devices));
  context_ = opened.handle;
  settings = std::move(opened.settings);

  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE | UCP_WORKER_PARAM_FIELD_AM_ALIGNMENT;
  params.thread_mode = UCS_THREAD_MODE_SINGLE;
  params.am_alignment = kFrameAlignment;
  const auto refused = [](const char* what, ucs_status_t status) {
    return failure(ErrorKind::kInvalid, std::string("UCX: ") + what + ": " + ucs_status_string(status));
  };
  if (const auto status = ucp_worker_create(context_, &params, &worker_); status != UCS_OK)
    return refused("no worker", status);
  ucp_worker_attr_t attributes{};
  attributes.field_mask = UCP_WORKER_ATTR_FIELD_MAX_AM_HEADER | UCP_WORKER_ATTR_FIELD_ADDRESS;
  if (const auto status = ucp_worker_query(worker_, &attributes); status != UCS_OK)
    return refused("no address", status);
  // host fingerprint, CRC32C of the rest, UCX's own bytes
  address.bytes.resize(12 + attributes.address_length);
  const auto* packed = reinterpret_cast<const std::byte*>(attributes.address);
  std::copy(packed, packed + attributes.address_length, address.bytes.begin() + 12);
  ucp_worker_release_address(worker_, attributes.address);
  put(std::span(address.bytes), 0, static_cast<std::uint64_t>(host_));
  put(std::span(address.bytes), 8, runtime::crc32c(std::span(address.bytes).subspan(12)));
  if (attributes.max_am_header < runtime::kMaxHeadBytes) {
    return failure(ErrorKind::kInvalid, "UCX takes headers of " + std::to_string(attributes.max_am_header) +
                                            " bytes here, " + std::to_string(runtime::kMaxHeadBytes) +
                                            " are needed; unset UCX_TLS or UCX_TCP_TX_SEG_SIZE in the environment");
  }
  if (const auto status = ucp_worker_get_efd(worker_, &event_fd); status != UCS_OK)
    return refused("no wake-up", status);

  const auto handle = [&](unsigned id, ucp_am_recv_callback_t callback, std::uint32_t flags) {
    ucp_am_handler_param_t handler{};
    handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                         UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
    handler.id = id;
    handler.flags = flags;
    handler.cb = callback;
    handler.arg = this;
    return ucp_worker_set_am_recv_handler(worker_, &handler);
  };
  for (const auto status :
       {handle(kUcxHello, UcxCallbacks::hello, UCP_AM_FLAG_WHOLE_MSG),
        handle(kUcxVerdict, UcxCallbacks::verdict, UCP_AM_FLAG_WHOLE_MSG),
        handle(kUcxFrame, UcxCallbacks::frame, UCP_AM_FLAG_WHOLE_MSG | UCP_AM_FLAG_PERSISTENT_DATA)}) {
    if (status != UCS_OK) return refused("no message handler", status);
  }
  return runtime::done();
}

bool UcxLink::Worker::poll() {
  CONSORT_CHECK(sink != nullptr, "attach a sink before polling");
  owner_ = std::this_thread::get_id();
  bool did = drain_releases();
  // What has arrived is handled before UCX is asked for more: over TCP each asking costs a system call.
  for (int i = 0; i < kProgressPerPoll && arrivals_.empty(); ++i) {
    if (ucp_worker_progress(worker_) == 0) break;
    did = true;
  }
  for (auto& connection : std::exchange(welcomed_, {})) go_up(connection);
  for (auto& connection : std::exchange(opened_, {})) {
    if (!connection->up || connection->left || connection->closed) continue;
    for (Lane& lane : connection->lanes) pump(lane);
  }
  for (std::size_t left = arrivals_.size(); left > 0 && !arrivals_.empty(); --left) {
    did = true;
    Arrival arrival = std::move(arrivals_.front());
    arrivals_.pop_front();
    handle(std::move(arrival));
  }
  if (std::exchange(received_, false)) {
    did = true;
    std::vector<std::shared_ptr<Greeted>> everyone;  // handlers may change the table
    for (const auto& [endpoint, greeted] : greeted_) everyone.push_back(greeted);
    for (const auto& greeted : everyone) {
      for (std::size_t c = 0; c < greeted->pending.size(); ++c) deliver_ready(*greeted, c);
    }
  }
  for (auto& connection : std::exchange(failed_, {})) {
    did = true;
    if (connection->closed || connection->left) continue;
    const std::string why = connection->why;
    const auto peer = connection->peer;
    connections_.erase(peer);
    leave(connection);
    sink->on_peer(peer, PeerChange::kLost, why);
  }
  did = reap() || did;
  if (did) busy_since_.reset();
  return did;
}

// UCX raises its descriptor for new events only, and says BUSY while old ones wait.
bool UcxLink::Worker::arm() {
  if (!arrivals_.empty() || !welcomed_.empty() || !opened_.empty() || !failed_.empty() || received_ ||
      has_released_.load(std::memory_order_relaxed)) {
    return false;
  }
  if (ucp_worker_arm(worker_) == UCS_OK) {
    busy_since_.reset();
    stuck_ = false;
    return true;
  }
  // Busy with nothing to do, turn after turn: as when the ring of shared memory waits for a writer that is no more.
  const auto now = std::chrono::steady_clock::now();
  if (!busy_since_) busy_since_ = now;
  if (!stuck_ && now - *busy_since_ > kStuckAfter) {
    stuck_ = true;
    if (options_.warn) {
      options_.warn(
          "UCX says that there is work and does none, as when a process was killed while it wrote to this one's shared "
          "memory: restart this node, or leave shared memory off");
    }
  }
  return stuck_;  // then a sleep by time is all there is
}

void UcxLink::Worker::shut_down() {
  owner_ = std::this_thread::get_id();
  while (!connections_.empty()) disconnect(connections_.begin()->first);
  const auto begin = std::chrono::steady_clock::now();
  do {
    ucp_worker_progress(worker_);
    drain_releases();
    reap();
    if (std::chrono::steady_clock::now() - begin > kLeaveDeadline) {
      for (auto& connection : std::exchange(leaving_, {})) close(connection);  // nothing is read from them any more
    }
  } while ((unfinished() > 0 || !close_requests_.empty()) && std::chrono::steady_clock::now() - begin < kCloseDeadline);
  for (auto& arrival : arrivals_) {
    if (arrival.data != nullptr) ucp_am_data_release(worker_, arrival.data);
  }
  arrivals_.clear();
  for (auto& connection : closing_) connection->lanes = {};
  const std::lock_guard lock(release_mutex_);
  shut_ = true;
  owner_ = std::thread::id();
  for (void* data : std::exchange(released_, {})) ucp_am_data_release(worker_, data);
}

}  // namespace consort::transport
