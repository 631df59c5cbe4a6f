// The identities that every floor shares: node, incarnation, actor, epoch, layer, expert. No more than these.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace consort::runtime {

// A number that is not interchangeable with another kind of number.
template <class Tag, class Rep>
struct Id {
  using rep = Rep;
  Rep value = 0;
  constexpr Id() = default;
  constexpr explicit Id(Rep v) : value(v) {}
  constexpr auto operator<=>(const Id&) const = default;
};

template <class Stream, class Tag, class Rep>
auto operator<<(Stream& out, Id<Tag, Rep> id) -> decltype(out << +id.value) {
  return out << +id.value;
}

using NodeId = Id<struct NodeTag, std::uint32_t>;              // a process that sends and receives; 0 = none
using Incarnation = Id<struct IncarnationTag, std::uint32_t>;  // one life of a node; given at join, never reused
using Epoch = Id<struct EpochTag, std::uint32_t>;              // version of the placement table
using LayerIndex = Id<struct LayerTag, std::uint32_t>;         // 0 .. num_hidden_layers - 1
using ExpertIndex = Id<struct ExpertTag, std::uint32_t>;       // 0 .. n_routed_experts - 1

// An actor within its node. type and index name it, generation counts its restarts.
struct ActorId {
  std::uint16_t type = 0;
  std::uint16_t generation = 0;
  std::uint32_t index = 0;
  constexpr auto operator<=>(const ActorId&) const = default;
  constexpr std::uint64_t packed() const {
    return (std::uint64_t{type} << 48) | (std::uint64_t{generation} << 32) | index;
  }
  static constexpr ActorId unpack(std::uint64_t bits) {
    return {static_cast<std::uint16_t>(bits >> 48), static_cast<std::uint16_t>(bits >> 32),
            static_cast<std::uint32_t>(bits)};
  }
};

// Where an actor lives. A restarted node is a new incarnation, and messages to the old one bounce.
struct ActorRef {
  NodeId node;
  Incarnation incarnation;
  ActorId actor;
  constexpr auto operator<=>(const ActorRef&) const = default;
};

}  // namespace consort::runtime

template <class Tag, class Rep>
struct std::hash<consort::runtime::Id<Tag, Rep>> {
  std::size_t operator()(consort::runtime::Id<Tag, Rep> id) const noexcept { return std::hash<Rep>{}(id.value); }
};
