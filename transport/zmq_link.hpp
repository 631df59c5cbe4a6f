// ZmqLink: the control plane. ZeroMQ with CURVE: one ROUTER to listen, one DEALER to each peer, keys say who is who.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "runtime/env.hpp"
#include "transport/curve_keys.hpp"
#include "transport/frame_intake.hpp"
#include "transport/loopback_link.hpp"

namespace consort::transport {

struct ZmqOptions {
  std::string bind;  // "tcp://127.0.0.1:0"; port 0: chosen by the system; "": a client, which only connects
  CurveKeys keys;    // this process
  std::vector<AllowedKey> allowed;  // who may connect here, and as whom
  std::size_t queue_frames = 1024;  // handed to ZeroMQ and not yet written to the wire, per peer and class
  std::size_t queue_bytes = std::size_t{32} << 20;        // the same in bytes; one frame always fits an empty queue
  std::size_t max_payload_bytes = std::size_t{16} << 20;  // control messages are small; this also bounds a single read
  bool payload_crc = false;                               // CURVE authenticates every byte
  WireTamper tamper = {};                                 // for tests: changes what leaves
};

// The sender of a frame is the one to whom the key of its connection belongs; routing ids, which a peer chooses itself,
// prove nothing. A token of zeros is accepted: here the key is the proof. Other tokens must be right.
//
// Clients (operator keys, node ids from kFirstClientNode on) cannot be connected to: what is sent to them goes back
// over their own connection, as long as it lasts.
class ZmqLink final : public runtime::Link, public runtime::EventSource {
 public:
  // kInvalid in words for an address that cannot be bound, or one that binds every interface.
  static runtime::Outcome<std::unique_ptr<ZmqLink>> open(runtime::NodeId node, runtime::Incarnation incarnation,
                                                         ZmqOptions options);
  ~ZmqLink() override;

  void set_incarnation(runtime::Incarnation incarnation);  // at join; peers are greeted again under it
  void set_allowed(std::vector<AllowedKey> allowed);       // new connections, and frames of those that are there
  const LinkCounters& counters() const;

  // "tcp://host:port <server public key>", and the same taken apart.
  struct Endpoint {
    std::string url;
    std::string public_key;
  };
  static runtime::LinkAddress make_address(const Endpoint& endpoint);
  static runtime::Outcome<Endpoint> parse_address(const runtime::LinkAddress& address);

  void attach(runtime::LinkSink& sink) override;
  runtime::LinkAddress address() const override;  // empty for a client
  runtime::LinkToken token() const override;
  // While nobody listens there it is tried again; what breaks after that is kLost.
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
  explicit ZmqLink(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace consort::transport
