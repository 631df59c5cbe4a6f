// LoopbackLink: links between the nodes of one process. Frames pass through their wire form, payloads by handle.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/env.hpp"
#include "transport/frame_intake.hpp"

namespace consort::transport {

// Changes a frame on its way out, for tests and fault injection: header and metadata, and the payload with its trailer.
using WireTamper = std::function<void(std::vector<std::byte>& head, std::vector<std::byte>& payload)>;

// What the links of one process share: who is where. Thread safe; kept alive by its links.
class LoopbackMesh;
std::shared_ptr<LoopbackMesh> make_loopback_mesh();

struct LoopbackOptions {
  std::size_t queue_frames = 4096;                  // waiting at the receiver, per sender and class
  std::size_t queue_bytes = std::size_t{64} << 20;  // the same in bytes; one frame always fits an empty queue
  bool payload_crc = false;                         // memory inside a process needs no checksum
  WireTamper tamper = {};
};

class LoopbackLink final : public runtime::Link, public runtime::EventSource {
 public:
  LoopbackLink(std::shared_ptr<LoopbackMesh> mesh, runtime::NodeId node, runtime::Incarnation incarnation,
               LoopbackOptions options = {});
  ~LoopbackLink() override;  // its peers are told kLost

  void set_incarnation(runtime::Incarnation incarnation);  // at join; peers are greeted again under it
  const LinkCounters& counters() const;

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

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace consort::transport
