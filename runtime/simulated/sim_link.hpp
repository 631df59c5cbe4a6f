// SimLink: the end of a simulated wire in one process. Every frame crosses it as bytes, so that codecs and checksums
// count. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string_view>

#include "runtime/env.hpp"
#include "runtime/simulated/models.hpp"

namespace consort::runtime {

class SimNetwork;

enum class Wire : std::uint8_t { kControl = 0, kData = 1 };
std::string_view name(Wire wire);

struct SimLinkCounters {
  std::uint64_t frames_sent = 0;
  std::uint64_t frames_received = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t wrong_token = 0;         // hellos refused
  std::uint64_t no_hello = 0;            // frames of a connection whose hello was refused
  std::uint64_t wrong_source = 0;        // the header names another node or incarnation than the hello
  std::uint64_t malformed_heads = 0;     // each ended its connection
  std::uint64_t malformed_payloads = 0;  // the same
};

class SimLink final : public Link {
 public:
  SimLink(SimNetwork& network, Wire wire, std::uint32_t process, NodeId node, LinkToken token);
  ~SimLink() override;

  void attach(LinkSink& sink) override { sink_ = &sink; }
  LinkAddress address() const override;
  LinkToken token() const override { return token_; }
  // An empty address on the control wire is the peer's usual one.
  Status connect(NodeId peer, Incarnation incarnation, const LinkAddress& address, const LinkToken& token) override;
  void disconnect(NodeId peer) override;
  bool connected(NodeId peer) const override;
  Status send(NodeId peer, Frame frame) override;

  // Whose frames these are, from the next connect on; 0: not joined.
  void set_incarnation(Incarnation incarnation) { incarnation_ = incarnation; }
  const SimLinkCounters& counters() const { return counters_; }

 private:
  friend class SimNetwork;
  SimNetwork& network_;
  const Wire wire_;
  const std::uint32_t process_;
  const NodeId node_;
  const LinkToken token_;
  Incarnation incarnation_;
  LinkSink* sink_ = nullptr;
  std::map<NodeId, std::uint32_t> connections_;  // by peer: the network's number of ours to it
  SimLinkCounters counters_;
};

}  // namespace consort::runtime
