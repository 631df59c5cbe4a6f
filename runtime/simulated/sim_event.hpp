// SimEvent: one thing that happened in a simulated world. Checkers see each; the trace hash is made of them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "runtime/frame.hpp"
#include "runtime/ids.hpp"
#include "runtime/time.hpp"

namespace consort::runtime {

enum class SimEventKind : std::uint8_t {
  kTurn = 1,   // a handler turn: actor, message_kind (0: a continuation without kind, a posted turn, on_start)
  kFrame = 2,  // a frame, hello included, arrived: peer, message_kind, checksum
  kTimer = 3,
  kDevice = 4,
  kDisk = 5,
  kPeer = 6,  // a link told of a peer: peer, detail is the signal
  kStart = 7,
  kExit = 8,  // a parent heard that a child ended
};
std::string_view name(SimEventKind kind);

struct SimEvent {
  std::uint64_t index = 0;  // 0, 1, 2, ... in the world
  Instant time;
  SimEventKind kind = SimEventKind::kTurn;
  NodeId node;                // to whom it happened
  std::uint32_t process = 0;  // which of the world's processes, from 0; tells lives of a node apart
  ActorId actor;
  MessageKind message_kind = 0;
  NodeId peer;
  Incarnation peer_incarnation;  // of a frame: the life that sent it; 0: it had none yet
  std::uint32_t checksum = 0;    // of the frame's header and metadata
  std::uint32_t detail = 0;
};

}  // namespace consort::runtime
