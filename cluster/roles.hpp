// Who can live on a node, and the well-known ids under which other nodes address them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "runtime/ids.hpp"

namespace consort::cluster {

// ActorId.type of the actors that other nodes address; generation 0 means whoever lives there now.
enum class Role : std::uint16_t {
  kCoordinator = 1,
  kNodeAgent = 2,
  kMembership = 3,
  kRouter = 4,
  kExpertGroup = 5,
  kDecoder = 6,
  kBatcher = 7,
  kClient = 8,
  kGateway = 9,
};

constexpr runtime::ActorId actor_id(Role role, std::uint32_t index = 0) {
  return {static_cast<std::uint16_t>(role), 0, index};
}

// Worker processes count from 1 in the order of the node config; other processes have ranges of their own.
inline constexpr runtime::NodeId kCoordinatorNode{0x01000000};
inline constexpr std::uint32_t kFirstAgentNode = 0x02000000;   // + host index
inline constexpr runtime::NodeId kGatewayNode{0x03000000};     // to its agent; to others it is a client
inline constexpr std::uint32_t kFirstClientNode = 0xF0000000;  // + 24 random bits

constexpr bool is_worker(runtime::NodeId node) { return node.value > 0 && node.value < kCoordinatorNode.value; }
constexpr bool is_client(runtime::NodeId node) { return node.value >= kFirstClientNode; }

}  // namespace consort::cluster
