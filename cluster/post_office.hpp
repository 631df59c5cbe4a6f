// PostOffice: how a message gets to another node, and what may come in: planes, incarnations, credits, deadlines.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/env.hpp"
#include "runtime/event_loop.hpp"
#include "runtime/frame.hpp"
#include "runtime/ids.hpp"
#include "runtime/outcome.hpp"

namespace consort::cluster {

enum class Plane : std::uint8_t { kControl = 0, kData = 1 };

// A slot stands for this much payload; every tell and ask costs at least one.
inline constexpr std::size_t kSlotBytes = 64 << 10;
// Slots that a sender may have under way to one peer, by class: what the receiver is ready to hold.
inline constexpr std::array<std::uint32_t, runtime::kMessageClassCount> kWindowSlots = {
    1024,  // system: heartbeats and views; 1024 unanswered ones mean a peer that is gone
    1024,  // decode: 64 MiB; one row per message, thousands of (layer, micro-batch, destination) fit
    2048,  // bulk: 128 MiB, some prefill chunks of the widest model
    256,   // background: 16 MiB
};

// Own kinds, in the runtime's range: tells between post offices, never seen by actors, never in need of credit.
inline constexpr runtime::MessageKind kCreditKind = 0x0010;           // only its header matters: slots of its class
inline constexpr runtime::MessageKind kCreditResetKind = 0x0011;      // a wire of the sender broke and is up again
inline constexpr runtime::MessageKind kIncarnationOverKind = 0x0012;  // to a life that is over and does not know it

struct PostCounters {
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  std::uint64_t waited = 0;     // of them, for the first wire back to their sender
  std::uint64_t no_credit = 0;  // refused here
  std::uint64_t no_route = 0;
  std::uint64_t expired = 0;       // asks past their deadline, dropped at either end
  std::uint64_t stale_target = 0;  // for another life of this node
  std::uint64_t stale_source = 0;  // from a life that is over
  std::uint64_t wrong_source = 0;  // the header names another node than the link
  std::uint64_t malformed = 0;
  std::uint64_t credit_frames = 0;
  std::uint64_t credit_resets = 0;
  std::uint64_t wires_lost = 0;
  std::vector<std::pair<std::string, std::uint64_t>> named() const;
};

class PostOffice final : public runtime::RemoteDelivery {
 public:
  // Becomes the loop's RemoteDelivery and the sink of the links of the loop's Env. The Env must be set by then.
  explicit PostOffice(runtime::EventLoop& loop);
  ~PostOffice() override;
  PostOffice(const PostOffice&) = delete;
  PostOffice& operator=(const PostOffice&) = delete;

  // --- out ---------------------------------------------------------------------------------------------------
  // Between workers over the data link, else over the control link. An ask that is refused completes with the error at
  // once. A control connection that is gone is made again to the address that is known.
  runtime::Status deliver(runtime::Outgoing outgoing) override;
  runtime::Status connect(Plane plane, runtime::NodeId peer, runtime::Incarnation incarnation,
                          const runtime::LinkAddress& address, const runtime::LinkToken& token = {});
  void disconnect(Plane plane, runtime::NodeId peer);
  bool connected(Plane plane, runtime::NodeId peer) const;

  // --- who lives -----------------------------------------------------------------------------------------------
  // The incarnation of a peer that the Coordinator named; earlier ones are over.
  void expect(runtime::NodeId peer, runtime::Incarnation incarnation);
  // This life of the peer is over: nothing more of it is taken, asks to it complete with kPeerDown, its links close.
  // True where that is news.
  bool forget(runtime::NodeId peer, runtime::Incarnation incarnation, std::string why);
  bool is_dead(runtime::NodeId peer, runtime::Incarnation incarnation) const;
  // The last time that any byte of the peer came in over this plane.
  std::optional<runtime::Instant> last_heard(runtime::NodeId peer, Plane plane) const;
  // What the links say of peers; a hint, told from within the link's poll.
  using PeerHint = std::function<void(runtime::NodeId, Plane, runtime::PeerChange, std::string_view why)>;
  void on_peer_hint(PeerHint hint);

  // Another node says that this node's own incarnation is over: the process must end.
  void on_own_end(std::function<void(std::string_view why)> callback);

  // --- what the checkers read ------------------------------------------------------------------------------------
  const PostCounters& counters() const;
  // Slots that may still be sent to the peer; kWindowSlots at rest.
  std::uint32_t credit(runtime::NodeId peer, runtime::MessageClass message_class) const;
  // Slots of the peer that this side holds or has not given back yet; 0 at rest.
  std::uint32_t held(runtime::NodeId peer, runtime::MessageClass message_class) const;
  std::vector<runtime::NodeId> peers() const;
  // Slots of all living peers that are not where they belong, either way; 0 at rest. Class system is never at rest
  // while nodes beat.
  std::uint64_t slots_out(runtime::MessageClass message_class) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace consort::cluster
