// ControlMessage: what one ZeroMQ message of the control plane says: a hello, a verdict or a frame. Grammar:
// docs/wire.md. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "runtime/outcome.hpp"

namespace consort::transport {

enum class ControlTag : std::uint8_t { kHello = 'H', kVerdict = 'V', kFrame = 'F' };

using Bytes = std::span<const std::byte>;

struct ControlMessage {
  ControlTag tag = ControlTag::kFrame;
  Bytes body;     // the hello, the verdict, or a frame's header and metadata
  Bytes payload;  // of a frame; empty where it has none
};

inline constexpr std::size_t kMaxControlParts = 3;  // tag, body, payload; a router sees the routing id before them

// kMalformed for a wrong number of parts or an unknown tag. The parts stay where they are.
runtime::Outcome<ControlMessage> read_control(std::span<const Bytes> parts);

}  // namespace consort::transport
