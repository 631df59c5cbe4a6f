// UcxLink: the data plane. UCX active messages over TCP or RDMA, by what UCX finds, and shared memory where asked for.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/buffer.hpp"
#include "runtime/env.hpp"
#include "transport/frame_intake.hpp"
#include "transport/loopback_link.hpp"

namespace consort::transport {

enum class PayloadCrc : std::uint8_t {
  kAuto,
  kOn,
  kOff
};  // kAuto: on, except where only shared memory carries the lane

struct UcxOptions {
  // Between processes of one host. With UCX 1.13.1 a killed process can harm the others: after 8 of 80 deaths under
  // traffic its next life was not heard for 10 s or more. With TCP after none. docs/adr/0002 has the counts; see
  // stuck().
  bool shared_memory = false;
  std::string transports;   // UCX_TLS; "": tcp, sm by shared_memory, and what verbs devices offer
  std::string net_devices;  // UCX_NET_DEVICES; "": UCX chooses
  PayloadCrc payload_crc = PayloadCrc::kAuto;
  std::size_t queue_frames = 4096;                  // sent or waiting and not yet completed, per peer and class
  std::size_t queue_bytes = std::size_t{64} << 20;  // the same in bytes; one frame always fits an empty queue
  runtime::BufferPool* pool = nullptr;              // where rendezvous payloads land; null: memory of their own
  std::function<void(std::string_view)> warn;       // what an operator should hear; null: nobody
  WireTamper tamper;                                // for tests: changes what leaves
};

// Made, polled and used by one thread (a loop and its UCX worker belong together); destroyed when that thread has ended
// or by it. Buffers of received frames may outlive the link and end on any thread.
class UcxLink final : public runtime::Link, public runtime::EventSource {
 public:
  // kInvalid in words where UCX does not start here. An incarnation of 0 means "not joined": see set_incarnation.
  static runtime::Outcome<std::unique_ptr<UcxLink>> open(runtime::NodeId node, runtime::Incarnation incarnation,
                                                         UcxOptions options = {});
  ~UcxLink() override;  // says goodbye to its peers

  void set_incarnation(runtime::Incarnation incarnation);  // at join; peers are greeted again under it
  const std::string& settings() const;                     // the settings in force, one a line
  // Which wires carry the lane of system and decode to a peer: "sysv", "tcp", ... Empty while not connected.
  std::vector<std::string> transports(runtime::NodeId peer) const;
  const LinkCounters& counters() const;
  // UCX has said for a second that there is work, and done none: seen over shared memory after a peer was killed. This
  // process may hear its host's other processes no more and should be restarted.
  bool stuck() const;
  // Connections that were left or lost and that UCX has not let go of yet; 0 at rest.
  std::size_t unfinished() const;

  void attach(runtime::LinkSink& sink) override;
  runtime::LinkAddress address() const override;
  runtime::LinkToken token() const override;
  runtime::Status connect(runtime::NodeId peer, runtime::Incarnation incarnation, const runtime::LinkAddress& address,
                          const runtime::LinkToken& token) override;
  void disconnect(runtime::NodeId peer) override;
  bool connected(runtime::NodeId peer) const override;
  runtime::Status send(runtime::NodeId peer, runtime::Frame frame) override;

  bool poll() override;
  int fd() const override;
  bool arm() override;

  class Worker;

 private:
  explicit UcxLink(std::shared_ptr<Worker> worker);
  std::shared_ptr<Worker> worker_;  // shared with the buffers of received frames
};

}  // namespace consort::transport
