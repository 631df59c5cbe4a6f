// Env: the one seam through which time, chance, threads, links, disks, devices and processes reach an actor.
// Real kinds are answered by the floors above (transport, kernels, cluster); simulated ones by runtime/simulated.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/frame.hpp"
#include "runtime/outcome.hpp"
#include "runtime/time.hpp"
#include "runtime/workers.hpp"

namespace consort::runtime {

class Trace;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Instant now() const = 0;
  virtual std::int64_t unix_ns() const = 0;  // for logs and the API only, never for a decision
};

// SplitMix64. Real nodes seed it from the kernel, simulated ones from the scenario's seed.
class Rng {
 public:
  explicit Rng(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next();
  std::uint64_t below(std::uint64_t bound);  // uniform in [0, bound); bound > 0
  double unit();                             // uniform in [0, 1)

 private:
  std::uint64_t state_;
};

using TimerId = std::uint64_t;  // 0 = none

// One-shot timers of a loop. A callback runs as a turn of its own on that loop.
class Timers {
 public:
  virtual ~Timers() = default;
  virtual TimerId at(Instant when, std::function<void()> callback) = 0;
  virtual void cancel(TimerId id) = 0;
};

// Where a peer's link can be reached; opaque to all but the link (UCX worker address, tcp://host:port).
struct LinkAddress {
  std::vector<std::byte> bytes;
};
// 128 random bits, fresh per incarnation: the first message on an endpoint carries the receiver's token.
using LinkToken = std::array<std::byte, 16>;

enum class PeerChange : std::uint8_t { kConnected, kLost };

// What a link tells its owner, always from within EventSource::poll of the loop that owns it.
class LinkSink {
 public:
  virtual ~LinkSink() = default;
  virtual void on_frame(NodeId from, Frame frame) = 0;
  // The wire says that the peer is gone. A hint only: the Coordinator declares death.
  virtual void on_peer(NodeId peer, PeerChange change, std::string_view why) = 0;
};

// Frames out; frames and peer events in. Kinds: loopback_link, ucx_link, zmq_link, shaped_link, simulated.
class Link {
 public:
  virtual ~Link() = default;
  virtual void attach(LinkSink& sink) = 0;
  virtual LinkAddress address() const = 0;
  virtual LinkToken token() const = 0;
  // Starts connecting. A second connect to the same peer with another incarnation replaces the first. Frames sent
  // before the wire is up are queued up to a bound.
  virtual Status connect(NodeId peer, Incarnation incarnation, const LinkAddress& address, const LinkToken& token) = 0;
  virtual void disconnect(NodeId peer) = 0;
  virtual bool connected(NodeId peer) const = 0;
  // Takes the frame. kPeerDown where there is no connection, kExhausted where its queue is full. What was accepted is
  // delivered once and in order per class, or the peer is lost.
  virtual Status send(NodeId peer, Frame frame) = 0;
};

// Something that a loop turns: links, sockets, children. poll() does a bounded amount of work.
class EventSource {
 public:
  virtual ~EventSource() = default;
  virtual bool poll() = 0;               // true: did something
  virtual int fd() const { return -1; }  // for epoll, the same as long as it is a source; -1: only by time
  virtual bool arm() { return true; }    // before sleeping; false: there is work already, turn again
};

struct DeviceWork {
  std::function<void(Workers&)> run;  // on the device's threads; touches only what the submitter lent it
  std::string_view label;             // for traces; a literal
  std::uint64_t weight_bytes = 0;     // weights read: the cost model of simulated devices, and of profiles
  std::uint64_t rows = 0;
};

// A processor that computes off the loop. Work is run one piece after the other, urgent first.
class Device {
 public:
  virtual ~Device() = default;
  // `done` is called on a device thread (real) or in virtual time (simulated), and only posts to a loop: use
  // Actor::compute, which brings the completion back as a turn.
  virtual void submit(DeviceWork work, MessageClass urgency, std::function<void()> done) = 0;
  virtual int thread_count() const = 0;
  virtual std::size_t queued() const = 0;
};

// Files that must survive: small, append-only, checksummed by their user.
class DiskFile {
 public:
  virtual ~DiskFile() = default;
  // Appends and syncs; `done` only after the bytes would survive a power cut. Off the loop; `done` posts to one.
  virtual void append_synced(std::vector<std::byte> bytes, std::function<void(Status)> done) = 0;
};
class Disk {
 public:
  virtual ~Disk() = default;
  virtual Outcome<std::vector<std::byte>> read(const std::string& path) = 0;  // start-up only; kInvalid: no such file
  virtual Outcome<std::unique_ptr<DiskFile>> open_append(const std::string& path) = 0;  // created 0600
  // Replaces the file in one step (temporary file, sync, rename, sync of the folder). Start-up and compaction only.
  virtual Status replace(const std::string& path, std::span<const std::byte> bytes) = 0;
};

using ProcessId = std::int64_t;
struct ProcessExit {
  ProcessId process = 0;
  std::string description;  // "exit code 1", "signal 9"
};
struct ProcessSpec {
  std::string name;                    // the node's name, for messages
  std::vector<std::string> arguments;  // argv after the program's own path
};
// Starts processes of this program and tells when they end.
class Spawner {
 public:
  virtual ~Spawner() = default;
  virtual Outcome<ProcessId> start(const ProcessSpec& spec) = 0;
  virtual void kill(ProcessId process) = 0;                             // at once, stopped or not
  virtual void on_exit(std::function<void(ProcessExit)> callback) = 0;  // runs on the loop that owns the spawner
};

// Ends this process because it must not go on: its incarnation is stale. In the simulator the node ends.
class Terminator {
 public:
  virtual ~Terminator() = default;
  virtual void terminate(std::string_view why) = 0;
};

// By reference to every constructor that needs any of it. Pointers are null where a process has no such thing (an agent
// has no data link, a worker starts no children).
struct Env {
  Clock& clock;
  Rng& rng;
  Timers& timers;
  Terminator& terminator;
  Trace& trace;
  Disk* disk = nullptr;
  Device* device = nullptr;
  Spawner* spawner = nullptr;
  Link* control = nullptr;
  Link* data = nullptr;
};

}  // namespace consort::runtime
