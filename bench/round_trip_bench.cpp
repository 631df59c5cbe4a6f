// What do header, metadata, checks, event loop and actors add to a row's round trip between two processes? An ask with
// 14,336 bytes to an echo actor and back, beside a bare UCX active message of the same bytes, block by block in the
// same run. Usage: round_trip_bench [--shared-memory] [--quick] SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <ucp/api/ucp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "runtime/actor.hpp"
#include "runtime/event_loop.hpp"
#include "runtime/pinning.hpp"
#include "runtime/posix/posix_clock.hpp"
#include "runtime/trace.hpp"
#include "transport/ucx_link.hpp"
#include "transport/ucx_settings.hpp"

extern char** environ;

namespace consort::runtime {
namespace {

constexpr std::size_t kRowBytes = 14336;    // 7,168 BF16 values: one row of DeepSeek-V3
constexpr std::size_t kMetadataBytes = 48;  // six Cap'n Proto words: a small struct with one list
constexpr NodeId kAsker{1};
constexpr NodeId kEcho{2};
constexpr Incarnation kLife{1};

struct Row {
  static constexpr MessageKind kKind = 0x0F02;
  static constexpr MessageClass kClass = MessageClass::kDecode;
  Buffer bytes;
};
struct EchoRow {
  static constexpr MessageKind kKind = 0x0F01;
  static constexpr MessageClass kClass = MessageClass::kDecode;
  using Reply = Row;
  Buffer bytes;
};
struct Stop {
  static constexpr MessageKind kKind = 0x0F03;
  static constexpr MessageClass kClass = MessageClass::kDecode;
};

template <class M>
struct RowCodec {
  static Outcome<WireMessage> encode(const M& message) {
    return WireMessage{std::vector<std::byte>(kMetadataBytes, std::byte{7}), message.bytes};
  }
  static Outcome<M> decode(std::span<const std::byte> metadata, Buffer payload) {
    if (metadata.size() != kMetadataBytes || payload.size() != kRowBytes)
      return failure(ErrorKind::kMalformed, "not a row");
    return M{std::move(payload)};
  }
};

}  // namespace
template <>
struct Codec<Row> : RowCodec<Row> {};
template <>
struct Codec<EchoRow> : RowCodec<EchoRow> {};
template <>
struct Codec<Stop> {
  static Outcome<WireMessage> encode(const Stop&) { return WireMessage{std::vector<std::byte>(8), {}}; }
  static Outcome<Stop> decode(std::span<const std::byte>, Buffer) { return Stop{}; }
};
namespace {

using Microseconds = std::vector<double>;
double now_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "round_trip_bench: %s\n", what);
  std::exit(1);
}

// --- addresses between the two processes, and the parent's orders --------------------------------------------------

void put_bytes(int fd, const std::vector<std::byte>& bytes) {
  const auto size = static_cast<std::uint32_t>(bytes.size());
  require(
      ::write(fd, &size, sizeof size) == sizeof size && ::write(fd, bytes.data(), size) == static_cast<ssize_t>(size),
      "write");
}
std::vector<std::byte> take_bytes(int fd) {
  std::uint32_t size = 0;
  require(::read(fd, &size, sizeof size) == sizeof size && size < 65536, "read");
  std::vector<std::byte> bytes(size);
  require(::recv(fd, bytes.data(), size, MSG_WAITALL) == static_cast<ssize_t>(size), "read");
  return bytes;
}

// --- bare UCX ------------------------------------------------------------------------------------------------------

// One worker, one endpoint, one handler; settings as the link has them.
class BareUcx {
 public:
  explicit BareUcx(bool shared_memory) {
    auto opened = transport::open_ucx("", shared_memory, "");
    require(opened.ok(), "UCX does not open");
    context_ = opened->handle;
    ucp_worker_params_t params{};
    params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
    params.thread_mode = UCS_THREAD_MODE_SINGLE;
    require(ucp_worker_create(context_, &params, &worker_) == UCS_OK && ucp_worker_get_efd(worker_, &fd_) == UCS_OK,
            "no worker");
    ucp_am_handler_param_t handler{};
    handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                         UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
    handler.id = 1;
    handler.flags = UCP_AM_FLAG_WHOLE_MSG;
    handler.arg = this;
    handler.cb = [](void* arg, const void* header, size_t header_length, void*, size_t length,
                    const ucp_am_recv_param_t*) {
      auto& self = *static_cast<BareUcx*>(arg);
      ++self.received_;
      self.last_ = static_cast<const std::byte*>(header)[0];
      require(header_length == kFrameHeaderBytes + kMetadataBytes && length == kRowBytes, "a wrong message");
      return UCS_OK;
    };
    require(ucp_worker_set_am_recv_handler(worker_, &handler) == UCS_OK, "no handler");
  }
  ~BareUcx() {
    ucp_worker_destroy(worker_);
    ucp_cleanup(context_);
  }

  std::vector<std::byte> address() const {
    ucp_address_t* address = nullptr;
    std::size_t size = 0;
    require(ucp_worker_get_address(worker_, &address, &size) == UCS_OK, "no address");
    const auto* bytes = reinterpret_cast<const std::byte*>(address);
    std::vector<std::byte> copy(bytes, bytes + size);
    ucp_worker_release_address(worker_, address);
    return copy;
  }
  void connect(const std::vector<std::byte>& address) {
    ucp_ep_params_t params{};
    params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE;
    params.address = reinterpret_cast<const ucp_address_t*>(address.data());
    params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
    require(ucp_ep_create(worker_, &params, &endpoint_) == UCS_OK, "no endpoint");
  }
  std::vector<std::string> transports() const { return transport::active_message_transports(endpoint_); }

  void send(std::byte first) {
    head_[0] = first;
    ucp_request_param_t params{};
    const auto request = ucp_am_send_nbx(endpoint_, 1, head_.data(), head_.size(), row_.data(), row_.size(), &params);
    require(!UCS_PTR_IS_ERR(request), "send");
    if (request == nullptr) return;
    while (ucp_request_check_status(request) == UCS_INPROGRESS) ucp_worker_progress(worker_);
    ucp_request_free(request);
  }
  void receive(bool sleep) {
    const auto before = received_;
    while (received_ == before) {
      if (ucp_worker_progress(worker_) != 0 || !sleep) continue;
      if (ucp_worker_arm(worker_) != UCS_OK) continue;
      pollfd waiting{fd_, POLLIN, 0};
      ::poll(&waiting, 1, 10);
    }
  }
  std::byte last() const { return last_; }

 private:
  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  ucp_ep_h endpoint_ = nullptr;
  int fd_ = -1;
  std::uint64_t received_ = 0;
  std::byte last_{};
  std::vector<std::byte> head_ = std::vector<std::byte>(kFrameHeaderBytes + kMetadataBytes);
  std::vector<std::byte> row_ = std::vector<std::byte>(kRowBytes);
};

// --- the whole way -------------------------------------------------------------------------------------------------

// The least that a post office does: frames from messages, and back.
class Bridge final : public RemoteDelivery, public LinkSink {
 public:
  Bridge(EventLoop& loop, Link& link) : loop_(loop), link_(link) {}
  Status deliver(Outgoing outgoing) override {
    Frame frame;
    FrameHeader& header = frame.header;
    header.message_class = outgoing.message_class;
    header.type = outgoing.type;
    header.kind = outgoing.kind;
    header.source_node = outgoing.source.node;
    header.source_incarnation = outgoing.source.incarnation;
    header.source_actor = outgoing.source.actor;
    header.target_incarnation = outgoing.target.incarnation;
    header.target_actor = outgoing.target.actor;
    header.correlation = outgoing.correlation;
    if (outgoing.deadline != Instant::max()) {
      const auto left = outgoing.deadline - loop_.env().clock.now();
      header.remaining_us =
          static_cast<std::uint32_t>(std::chrono::duration_cast<std::chrono::microseconds>(left).count());
    }
    frame.metadata = std::move(outgoing.message.metadata);
    frame.payload = std::move(outgoing.message.payload);
    return link_.send(outgoing.target.node, std::move(frame));
  }
  void on_frame(NodeId, Frame frame) override {
    loop_.receive_remote(frame.header, {std::move(frame.metadata), std::move(frame.payload)});
  }
  void on_peer(NodeId, PeerChange change, std::string_view why) override {
    if (change == PeerChange::kLost)
      std::fprintf(stderr, "round_trip_bench: the peer is lost: %.*s\n", static_cast<int>(why.size()), why.data());
  }

 private:
  EventLoop& loop_;
  Link& link_;
};

using EchoProtocol = Protocol<Ask<EchoRow>, Tell<Stop>>;
class Echo final : public ActorOf<Echo, EchoProtocol> {
 public:
  void on(EchoRow row, ReplyTo<Row> reply) { reply.send(Row{std::move(row.bytes)}); }
  void on(Stop) { loop().stop(); }
};

// Asks one row after the other and notes the times.
class Asker final : public ActorOf<Asker, Protocol<Tell<Stop>>> {
 public:
  Asker(RefTo<EchoProtocol> echo, int rounds, Microseconds& times)
      : echo_(echo), rounds_(rounds), times_(times), row_(Buffer::allocate(kRowBytes)) {
    auto bytes = row_.mutable_bytes();
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 31);
  }
  void on(Stop) {}

 private:
  void on_start() override { next(); }
  void next() {
    if (rounds_-- == 0) {
      tell(echo_, Stop{});
      after(std::chrono::milliseconds(5), [this] { loop().stop(); });  // the tell leaves first
      return;
    }
    begin_ = now_us();
    ask(echo_, EchoRow{row_}, std::chrono::seconds(10)).then([this](Outcome<Row> row) {
      times_.push_back(now_us() - begin_);
      require(row.ok(), "an ask failed");
      if (rounds_ % 64 == 0) require(std::ranges::equal(row->bytes.bytes(), row_.bytes()), "the row came back changed");
      next();
    });
  }
  RefTo<EchoProtocol> echo_;
  int rounds_;
  Microseconds& times_;
  Buffer row_;
  double begin_ = 0;
};

// A process's loop with its link.
struct Node {
  posix::PosixClock clock;
  posix::ExitTerminator terminator;
  Rng rng{1};
  Trace trace;
  EventLoop loop;
  Env env;
  std::unique_ptr<transport::UcxLink> link;
  std::unique_ptr<Bridge> bridge;

  Node(NodeId node, bool shared_memory) : loop(node), env{clock, rng, loop, terminator, trace} {
    transport::UcxOptions options;
    options.shared_memory = shared_memory;
    auto opened = transport::UcxLink::open(node, kLife, options);
    require(opened.ok(), "the link does not open");
    link = std::move(opened).value();
    bridge = std::make_unique<Bridge>(loop, *link);
    link->attach(*bridge);
    env.data = link.get();
    loop.set_env(env);
    loop.set_incarnation(kLife);
    loop.set_remote(bridge.get());
    loop.add_source(*link);
  }
};

constexpr Duration kSpin = std::chrono::seconds(10);  // "both polling": never sleeps within a block
enum class Order : char { kBareSleep = 'b', kBarePoll = 'B', kWholeSleep = 'w', kWholePoll = 'W', kEnd = 'e' };

void meet(int fd, Node& node, NodeId peer, BareUcx& bare) {
  put_bytes(fd, bare.address());
  bare.connect(take_bytes(fd));
  put_bytes(fd, node.link->address().bytes);
  const auto token = node.link->token();
  put_bytes(fd, {token.begin(), token.end()});
  LinkAddress address{take_bytes(fd)};
  const auto token_bytes = take_bytes(fd);
  LinkToken peer_token{};
  std::copy_n(token_bytes.begin(), peer_token.size(), peer_token.begin());
  require(node.link->connect(peer, kLife, address, peer_token).ok(), "connect");
  while (!node.link->connected(peer)) node.link->poll();
}

// Each side stays on a core of its own, as nodes do. Left alone, the scheduler sometimes keeps both on one core, where
// a sleeping round trip is a change of context instead of a wake-up: 27 us bare, 45 us whole, which is another
// question.
void pin(std::size_t side) {
  const auto cores = this_machine().cores;
  if (cores.size() < 2) return;
  require(pin_this_thread(std::array{cores[side]}).ok(), "cannot pin");
}

int serve(int fd, bool shared_memory) {
  pin(1);
  Node node(kEcho, shared_memory);
  BareUcx bare(shared_memory);
  node.loop.spawn_root(9, 0, [] { return std::make_unique<Echo>(); });
  meet(fd, node, kAsker, bare);
  while (true) {
    // Between the orders the bare worker's and the link's wire-up still want turns.
    pollfd waiting{fd, POLLIN, 0};
    while (::poll(&waiting, 1, 1) == 0) node.link->poll();
    char order = 0;
    if (::read(fd, &order, 1) != 1) return 0;
    switch (static_cast<Order>(order)) {
      case Order::kBareSleep:
      case Order::kBarePoll:
        do {
          bare.receive(order == static_cast<char>(Order::kBareSleep));
          bare.send(bare.last());
        } while (bare.last() != std::byte{0xEE});
        break;
      case Order::kWholeSleep:
        node.loop.run(Duration::zero());
        break;
      case Order::kWholePoll:
        node.loop.run(kSpin);
        break;
      case Order::kEnd:
        return 0;
    }
  }
}

void give(int fd, Order order) {
  const char letter = static_cast<char>(order);
  require(::write(fd, &letter, 1) == 1, "write");
  ::usleep(2000);  // the other side is in its loop
}

void bare_block(int fd, BareUcx& bare, bool sleep, int rounds, Microseconds& times) {
  give(fd, sleep ? Order::kBareSleep : Order::kBarePoll);
  for (int i = 0; i < rounds; ++i) {
    const double begin = now_us();
    bare.send(i + 1 == rounds ? std::byte{0xEE} : std::byte{1});
    bare.receive(sleep);
    times.push_back(now_us() - begin);
  }
}

void whole_block(int fd, Node& node, bool sleep, int rounds, Microseconds& times) {
  give(fd, sleep ? Order::kWholeSleep : Order::kWholePoll);
  static std::uint32_t block = 0;
  const RefTo<EchoProtocol> echo{{kEcho, kLife, {9, 0, 0}}};
  const auto asker =
      node.loop.spawn_root(8, ++block, [&, echo] { return std::make_unique<Asker>(echo, rounds, times); });
  node.loop.run(sleep ? Duration::zero() : kSpin);
  node.loop.stop_actor(asker.actor);
}

double quantile(Microseconds times, double q) {
  std::ranges::sort(times);
  return times[static_cast<std::size_t>(q * static_cast<double>(times.size() - 1))];
}
void print_line(const char* what, const Microseconds& t) {
  std::printf("  %-28s median %7.1f us   p10 %7.1f   p90 %7.1f   p99 %7.1f   (%zu round trips)\n", what,
              quantile(t, 0.5), quantile(t, 0.1), quantile(t, 0.9), quantile(t, 0.99), t.size());
}

std::string machine() {
  std::ifstream info("/proc/cpuinfo");
  std::string model = "unknown processor";
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) {
      model = line.substr(line.find(':') + 2);
      break;
    }
  }
  std::ifstream load_file("/proc/loadavg");
  std::string load;
  load_file >> load;
  return model + ", " + std::to_string(::sysconf(_SC_NPROCESSORS_ONLN)) + " cores, load " + load;
}

int measure(bool shared_memory, bool quick) {
  int fds[2];
  require(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0, "socketpair");
  const auto program = std::filesystem::read_symlink("/proc/self/exe").string();
  std::vector<std::string> words = {program, "--serve", std::to_string(fds[1])};
  if (shared_memory) words.push_back("--shared-memory");
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t child = 0;
  require(::posix_spawn(&child, program.c_str(), nullptr, nullptr, arguments.data(), environ) == 0, "spawn");
  ::close(fds[1]);
  pin(0);
  int failed = 0;
  {
    Node node(kAsker, shared_memory);
    BareUcx bare(shared_memory);
    meet(fds[0], node, kEcho, bare);
    std::printf("Round trip of a %zu-byte row between two processes. %s\n", kRowBytes, machine().c_str());
    const int blocks = quick ? 4 : 20;
    const int rounds = quick ? 100 : 300;
    for (const bool sleep : {true, false}) {
      Microseconds bare_times;
      Microseconds whole_times;
      Microseconds ratios;
      for (int block = -1; block < blocks; ++block) {  // the first is warm-up
        Microseconds b;
        Microseconds w;
        bare_block(fds[0], bare, sleep, rounds, b);
        whole_block(fds[0], node, sleep, rounds, w);
        if (block < 0) continue;
        ratios.push_back(quantile(w, 0.5) / quantile(b, 0.5));
        bare_times.insert(bare_times.end(), b.begin(), b.end());
        whole_times.insert(whole_times.end(), w.begin(), w.end());
      }
      std::printf("both sides %s, over %s\n", sleep ? "sleeping (arm, epoll)" : "polling",
                  node.link->transports(kEcho).front().c_str());
      print_line("bare UCX active message", bare_times);
      print_line("header, metadata, actor", whole_times);
      const double limit = sleep ? 1.5 : 2.0;
      const double ratio = quantile(whole_times, 0.5) / quantile(bare_times, 0.5);
      std::printf("  ratio of medians %.2f (at most %.1f: %s); by block %.2f to %.2f\n", ratio, limit,
                  ratio <= limit ? "yes" : "NO", quantile(ratios, 0), quantile(ratios, 1));
      failed += ratio > limit;
    }
    give(fds[0], Order::kEnd);
  }
  ::waitpid(child, nullptr, 0);
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace consort::runtime

int main(int argc, char** argv) {
  bool shared_memory = false;
  bool quick = false;
  int fd = -1;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--shared-memory") {
      shared_memory = true;
    } else if (word == "--quick") {
      quick = true;
    } else if (word == "--serve" && i + 1 < argc) {
      fd = std::atoi(argv[++i]);
    } else {
      std::fprintf(stderr, "usage: round_trip_bench [--shared-memory] [--quick]\n");
      return 2;
    }
  }
  return fd >= 0 ? consort::runtime::serve(fd, shared_memory) : consort::runtime::measure(shared_memory, quick);
}
