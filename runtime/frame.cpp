#include "runtime/frame.hpp"

#include <bit>
#include <cstring>
#include <type_traits>

namespace consort::runtime {
namespace {

static_assert(std::endian::native == std::endian::little, "the wire is little-endian and copied as it lies in memory");

// Where each field of the header starts. docs/wire.md has the same table.
enum Offset : std::size_t {
  kMagicAt = 0,
  kVersionAt = 2,
  kFlagsAt = 3,
  kKindAt = 4,
  kMetadataBytesAt = 6,
  kPayloadBytesAt = 8,
  kCrcAt = 12,
  kSourceNodeAt = 16,
  kSourceIncarnationAt = 20,
  kSourceActorAt = 24,
  kTargetIncarnationAt = 32,
  kTargetActorAt = 36,
  kEpochAt = 44,
  kCorrelationAt = 48,
  kRemainingUsAt = 56,
  kCreditSlotsAt = 60,
  kReservedAt = 62,
};

// The flags byte: bits 0-1 the class, 2-3 the type, 4 payload_checked, 5-7 zero.
constexpr unsigned kClassMask = 0x03;
constexpr unsigned kTypeShift = 2;
constexpr unsigned kPayloadCheckedBit = 0x10;
constexpr unsigned kUnusedBits = 0xE0;
constexpr std::size_t kCrcBytes = 4;

template <class T>
void put(std::byte* head, std::size_t offset, T value) {
  static_assert(std::is_unsigned_v<T>);
  std::memcpy(head + offset, &value, sizeof(T));
}

template <class T>
T get(const std::byte* head, std::size_t offset) {
  static_assert(std::is_unsigned_v<T>);
  T value;
  std::memcpy(&value, head + offset, sizeof(T));
  return value;
}

// CRC32C of header and metadata with the CRC field read as zero.
std::uint32_t head_crc(std::span<const std::byte> head) {
  constexpr std::array<std::byte, kCrcBytes> zero{};
  const std::uint32_t before = crc32c(head.first(kCrcAt));
  return crc32c(head.subspan(kCrcAt + kCrcBytes), crc32c(zero, before));
}

Error malformed(std::string text) { return failure(ErrorKind::kMalformed, "frame refused: " + std::move(text)); }

}  // namespace

Outcome<std::vector<std::byte>> encode_head(const Frame& frame) {
  const FrameHeader& header = frame.header;
  if (frame.metadata.size() > kMaxMetadataBytes) {
    return failure(ErrorKind::kExhausted, "the metadata of message kind " + std::to_string(header.kind) + " has " +
                                              std::to_string(frame.metadata.size()) + " bytes, a frame holds " +
                                              std::to_string(kMaxMetadataBytes) + "; send fewer rows per message");
  }
  const std::size_t payload_bytes = frame.payload.size() + (header.payload_checked ? kCrcBytes : 0);
  if (payload_bytes > kMaxPayloadBytes) {
    return failure(ErrorKind::kExhausted, "the payload of message kind " + std::to_string(header.kind) + " has " +
                                              std::to_string(payload_bytes) + " bytes, a frame holds " +
                                              std::to_string(kMaxPayloadBytes) + "; send fewer rows per message");
  }
  std::vector<std::byte> head(kFrameHeaderBytes + frame.metadata.size());
  std::byte* at = head.data();
  put(at, kMagicAt, kFrameMagic);
  put(at, kVersionAt, kFrameVersion);
  const unsigned flags = static_cast<unsigned>(header.message_class) |
                         (static_cast<unsigned>(header.type) << kTypeShift) |
                         (header.payload_checked ? kPayloadCheckedBit : 0u);
  put(at, kFlagsAt, static_cast<std::uint8_t>(flags));
  put(at, kKindAt, header.kind);
  put(at, kMetadataBytesAt, static_cast<std::uint16_t>(frame.metadata.size()));
  put(at, kPayloadBytesAt, static_cast<std::uint32_t>(payload_bytes));
  put(at, kSourceNodeAt, header.source_node.value);
  put(at, kSourceIncarnationAt, header.source_incarnation.value);
  put(at, kSourceActorAt, header.source_actor.packed());
  put(at, kTargetIncarnationAt, header.target_incarnation.value);
  put(at, kTargetActorAt, header.target_actor.packed());
  put(at, kEpochAt, header.epoch.value);
  put(at, kCorrelationAt, header.correlation);
  put(at, kRemainingUsAt, header.remaining_us);
  put(at, kCreditSlotsAt, header.credit_slots);
  if (!frame.metadata.empty()) std::memcpy(at + kFrameHeaderBytes, frame.metadata.data(), frame.metadata.size());
  put(at, kCrcAt, head_crc(head));
  return head;
}

Outcome<Head> decode_head(std::span<const std::byte> bytes) {
  if (bytes.size() < kFrameHeaderBytes) {
    return malformed(std::to_string(bytes.size()) + " bytes are too few for a header of 64");
  }
  const std::byte* at = bytes.data();
  if (get<std::uint16_t>(at, kMagicAt) != kFrameMagic)
    return malformed("it does not begin with Consort's magic number");
  const auto version = get<std::uint8_t>(at, kVersionAt);
  if (version != kFrameVersion) {
    return malformed("its version is " + std::to_string(version) + ", this program speaks " +
                     std::to_string(kFrameVersion) + "; run the same release on every node");
  }
  const std::size_t metadata_bytes = get<std::uint16_t>(at, kMetadataBytesAt);
  if (metadata_bytes > kMaxMetadataBytes || bytes.size() != kFrameHeaderBytes + metadata_bytes) {
    return malformed("it announces " + std::to_string(metadata_bytes) + " bytes of metadata and brings " +
                     std::to_string(bytes.size() - kFrameHeaderBytes));
  }
  if (get<std::uint32_t>(at, kCrcAt) != head_crc(bytes))
    return malformed("the CRC of its header and metadata is wrong");

  const unsigned flags = get<std::uint8_t>(at, kFlagsAt);
  if ((flags & kUnusedBits) != 0 || get<std::uint16_t>(at, kReservedAt) != 0) {
    return malformed("bits are set that version 1 leaves zero");
  }
  Head head;
  head.header.payload_checked = (flags & kPayloadCheckedBit) != 0;
  head.payload_bytes = get<std::uint32_t>(at, kPayloadBytesAt);
  if (head.payload_bytes > kMaxPayloadBytes || (head.header.payload_checked && head.payload_bytes < kCrcBytes)) {
    return malformed("it announces a payload of " + std::to_string(head.payload_bytes) + " bytes");
  }
  head.header.message_class =
      static_cast<MessageClass>(flags & kClassMask);  // four values, four enumerators: all valid
  head.header.type = static_cast<FrameType>((flags >> kTypeShift) & kClassMask);
  head.header.kind = get<std::uint16_t>(at, kKindAt);
  head.header.source_node = NodeId(get<std::uint32_t>(at, kSourceNodeAt));
  head.header.source_incarnation = Incarnation(get<std::uint32_t>(at, kSourceIncarnationAt));
  head.header.source_actor = ActorId::unpack(get<std::uint64_t>(at, kSourceActorAt));
  head.header.target_incarnation = Incarnation(get<std::uint32_t>(at, kTargetIncarnationAt));
  head.header.target_actor = ActorId::unpack(get<std::uint64_t>(at, kTargetActorAt));
  head.header.epoch = Epoch(get<std::uint32_t>(at, kEpochAt));
  head.header.correlation = get<std::uint64_t>(at, kCorrelationAt);
  head.header.remaining_us = get<std::uint32_t>(at, kRemainingUsAt);
  head.header.credit_slots = get<std::uint16_t>(at, kCreditSlotsAt);
  head.metadata.assign(bytes.begin() + kFrameHeaderBytes, bytes.end());
  return head;
}

std::array<std::byte, 4> payload_trailer(const Buffer& payload) {
  std::array<std::byte, 4> trailer;
  put(trailer.data(), 0, crc32c(payload.bytes()));
  return trailer;
}

Outcome<Buffer> check_payload(const Head& head, Buffer payload_with_trailer) {
  if (payload_with_trailer.size() != head.payload_bytes) {
    return malformed("it announces a payload of " + std::to_string(head.payload_bytes) + " bytes and brings " +
                     std::to_string(payload_with_trailer.size()));
  }
  if (!head.header.payload_checked) return payload_with_trailer;
  const std::size_t bytes = payload_with_trailer.size() - kCrcBytes;
  const auto wire = payload_with_trailer.bytes();
  if (get<std::uint32_t>(wire.data(), bytes) != crc32c(wire.first(bytes))) {
    return malformed("the CRC of its payload of " + std::to_string(bytes) + " bytes is wrong");
  }
  return payload_with_trailer.slice(0, bytes);
}

}  // namespace consort::runtime
