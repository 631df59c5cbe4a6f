// Frame: what crosses a link. A 64-byte header, Cap'n Proto metadata, and a payload of raw tensors. Grammar:
// docs/wire.md. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/buffer.hpp"
#include "runtime/ids.hpp"
#include "runtime/outcome.hpp"

namespace consort::runtime {

inline constexpr std::uint16_t kFrameMagic = 0xC057;
inline constexpr std::uint8_t kFrameVersion = 1;
inline constexpr std::size_t kFrameHeaderBytes = 64;
inline constexpr std::size_t kMaxHeadBytes =
    8100;  // header and metadata: the active-message header limit of UCX 1.13.1
inline constexpr std::size_t kMaxMetadataBytes = kMaxHeadBytes - kFrameHeaderBytes;
inline constexpr std::size_t kMaxPayloadBytes = std::size_t{256} << 20;  // one prefill chunk of the widest model fits

// Four classes of traffic, most urgent first. Order holds per sender, receiver and class.
enum class MessageClass : std::uint8_t { kSystem = 0, kDecode = 1, kBulk = 2, kBackground = 3 };
inline constexpr int kMessageClassCount = 4;

enum class FrameType : std::uint8_t { kTell = 0, kAsk = 1, kReply = 2, kError = 3 };

using MessageKind = std::uint16_t;  // ranges per folder in docs/wire.md; 0 is the runtime's own error reply

struct FrameHeader {
  MessageClass message_class = MessageClass::kSystem;
  FrameType type = FrameType::kTell;
  bool payload_checked = false;  // the payload ends with its CRC32C, counted in payload_bytes on the wire
  MessageKind kind = 0;
  NodeId source_node;
  Incarnation source_incarnation;
  ActorId source_actor;
  Incarnation target_incarnation;
  ActorId target_actor;
  Epoch epoch;
  std::uint64_t correlation = 0;   // the asker's slot; echoed by the reply
  std::uint32_t remaining_us = 0;  // until the ask's deadline; 0 = no deadline (tell, reply)
  std::uint16_t credit_slots = 0;  // slots given back to the receiver of this frame
};

struct Frame {
  FrameHeader header;
  std::vector<std::byte> metadata;
  Buffer payload;  // without the trailing CRC
};

// CRC32C (Castagnoli), started with `crc` of what came before.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t crc = 0);
// The same without the CPU's instruction; crc32c falls back to it.
std::uint32_t crc32c_by_tables(std::span<const std::byte> bytes, std::uint32_t crc = 0);

// Header and metadata as they go into the active-message header. kExhausted where they exceed kMaxHeadBytes.
Outcome<std::vector<std::byte>> encode_head(const Frame& frame);

// The way back. kMalformed, in words, for wrong magic, version, lengths, enumerators or CRC. payload_bytes is what the
// wire announces, with the trailing CRC where payload_checked.
struct Head {
  FrameHeader header;
  std::vector<std::byte> metadata;
  std::uint32_t payload_bytes = 0;
};
Outcome<Head> decode_head(std::span<const std::byte> bytes);

// The four bytes that end a checked payload, and their check. A payload that fails is kMalformed.
std::array<std::byte, 4> payload_trailer(const Buffer& payload);
Outcome<Buffer> check_payload(const Head& head, Buffer payload_with_trailer);

}  // namespace consort::runtime
