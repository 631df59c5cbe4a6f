#include "runtime/frame.hpp"

#include <cstring>
#include <string_view>

#include "runtime/env.hpp"
#include "support/test.hpp"

namespace consort::runtime {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

Frame example_frame() {
  Frame frame;
  frame.header.message_class = MessageClass::kBulk;
  frame.header.type = FrameType::kReply;
  frame.header.payload_checked = true;
  frame.header.kind = 0x0203;
  frame.header.source_node = NodeId(0x11121314);
  frame.header.source_incarnation = Incarnation(0x21222324);
  frame.header.source_actor = ActorId{0x3132, 0x3334, 0x35363738};
  frame.header.target_incarnation = Incarnation(0x41424344);
  frame.header.target_actor = ActorId{0x5152, 0x5354, 0x55565758};
  frame.header.epoch = Epoch(0x61626364);
  frame.header.correlation = 0x7172737475767778;
  frame.header.remaining_us = 0x81828384;
  frame.header.credit_slots = 0x9192;
  for (int i = 0; i < 5; ++i) frame.metadata.push_back(static_cast<std::byte>(i));
  frame.payload = Buffer::copy_of(bytes_of("seven bytes"));
  return frame;
}

// Little-endian number of `width` bytes at `offset`.
std::uint64_t number(const std::vector<std::byte>& head, std::size_t offset, std::size_t width) {
  std::uint64_t value = 0;
  for (std::size_t i = width; i-- > 0;) value = (value << 8) | std::to_integer<std::uint64_t>(head[offset + i]);
  return value;
}

// After a field was changed on purpose: makes the CRC right again, so that the field itself is what is refused.
void fix_crc(std::vector<std::byte>& head) {
  std::memset(head.data() + 12, 0, 4);
  const std::uint32_t crc = crc32c(head);
  std::memcpy(head.data() + 12, &crc, 4);
}

TEST_CASE("crc32c equals the published check values") {
  CHECK(crc32c(bytes_of("123456789")) == 0xE3069283u);
  CHECK(crc32c({}) == 0);
  // RFC 3720 appendix B.4: 32 bytes of zeroes, of ones, ascending, descending.
  std::array<std::byte, 32> block{};
  CHECK(crc32c(block) == 0x8A9136AAu);
  block.fill(std::byte{0xFF});
  CHECK(crc32c(block) == 0x62A8AB43u);
  for (std::size_t i = 0; i < 32; ++i) block[i] = static_cast<std::byte>(i);
  CHECK(crc32c(block) == 0x46DD794Eu);
  for (std::size_t i = 0; i < 32; ++i) block[i] = static_cast<std::byte>(31 - i);
  CHECK(crc32c(block) == 0x113FDB5Cu);
}

TEST_CASE("crc32c by instruction and by tables agree where stretches begin and end") {
  std::vector<std::byte> bytes(20000);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>((i * 2654435761u) >> 13);
  for (const std::size_t around : {768u, 1536u, 3072u, 3840u, 6144u, 14336u}) {
    for (std::size_t size = around - 9; size <= around + 9; ++size) {
      const auto piece = std::span<const std::byte>(bytes).subspan(size % 8, size);
      CHECK(crc32c(piece) == crc32c_by_tables(piece));
      CHECK(crc32c(piece, 0x12345678u) == crc32c_by_tables(piece, 0x12345678u));
    }
  }
}

TEST_CASE("crc32c by instruction, by tables and in pieces agree at every length and alignment") {
  Rng rng(1);
  std::vector<std::byte> data(300);
  for (auto& byte : data) byte = static_cast<std::byte>(rng.below(256));
  for (std::size_t first = 0; first < 9; ++first) {
    for (std::size_t size = 0; size + first <= data.size(); size += 1 + size / 16) {
      const auto piece = std::span<const std::byte>(data).subspan(first, size);
      const std::uint32_t whole = crc32c(piece);
      CHECK(whole == crc32c_by_tables(piece));
      const std::size_t cut = size / 3;
      CHECK(whole == crc32c(piece.subspan(cut), crc32c(piece.first(cut))));
    }
  }
}

TEST_CASE("a header lies on the wire as the grammar says") {
  const auto head = encode_head(example_frame()).value();
  REQUIRE(head.size() == 64 + 5);
  CHECK(number(head, 0, 2) == kFrameMagic);
  CHECK(number(head, 2, 1) == 1);
  CHECK(number(head, 3, 1) == (2u | (2u << 2) | 0x10u));
  CHECK(number(head, 4, 2) == 0x0203);
  CHECK(number(head, 6, 2) == 5);
  CHECK(number(head, 8, 4) == 11 + 4);
  CHECK(number(head, 16, 4) == 0x11121314);
  CHECK(number(head, 20, 4) == 0x21222324);
  CHECK(number(head, 24, 8) == 0x3132333435363738);
  CHECK(number(head, 32, 4) == 0x41424344);
  CHECK(number(head, 36, 8) == 0x5152535455565758);
  CHECK(number(head, 44, 4) == 0x61626364);
  CHECK(number(head, 48, 8) == 0x7172737475767778);
  CHECK(number(head, 56, 4) == 0x81828384);
  CHECK(number(head, 60, 2) == 0x9192);
  CHECK(number(head, 62, 2) == 0);
  auto copy = head;
  fix_crc(copy);
  CHECK(copy == head);  // the CRC is of header and metadata with its own field zero
}

TEST_CASE("a head decodes to what was encoded") {
  const Frame frame = example_frame();
  const auto head = decode_head(encode_head(frame).value()).value();
  CHECK(head.header.message_class == frame.header.message_class);
  CHECK(head.header.type == frame.header.type);
  CHECK(head.header.payload_checked);
  CHECK(head.header.kind == frame.header.kind);
  CHECK(head.header.source_node == frame.header.source_node);
  CHECK(head.header.source_incarnation == frame.header.source_incarnation);
  CHECK(head.header.source_actor == frame.header.source_actor);
  CHECK(head.header.target_incarnation == frame.header.target_incarnation);
  CHECK(head.header.target_actor == frame.header.target_actor);
  CHECK(head.header.epoch == frame.header.epoch);
  CHECK(head.header.correlation == frame.header.correlation);
  CHECK(head.header.remaining_us == frame.header.remaining_us);
  CHECK(head.header.credit_slots == frame.header.credit_slots);
  CHECK(head.metadata == frame.metadata);
  CHECK(head.payload_bytes == frame.payload.size() + 4);
}

TEST_CASE("every flipped bit of a head is refused") {
  const auto head = encode_head(example_frame()).value();
  for (std::size_t bit = 0; bit < head.size() * 8; ++bit) {
    auto broken = head;
    broken[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    const auto decoded = decode_head(broken);
    REQUIRE_FALSE(decoded.ok());
    CHECK(decoded.error().kind == ErrorKind::kMalformed);
    CHECK(decoded.error().text.starts_with("frame refused: "));
  }
}

TEST_CASE("a head of any other length is refused") {
  auto head = encode_head(example_frame()).value();
  for (std::size_t size = 0; size < head.size(); ++size) {
    CHECK_FALSE(decode_head(std::span(head).first(size)).ok());
  }
  head.push_back(std::byte{0});
  CHECK_FALSE(decode_head(head).ok());
}

TEST_CASE("fields that version 1 does not allow are refused though the CRC is right") {
  const auto good = encode_head(example_frame()).value();
  const auto with = [&](std::size_t offset, int value) {
    auto head = good;
    head[offset] = static_cast<std::byte>(value);
    fix_crc(head);
    return decode_head(head);
  };
  REQUIRE(with(4, 9).ok());  // another kind is fine: the way of breaking does not itself break
  CHECK(with(2, 2).error().text.find("version is 2") != std::string::npos);
  CHECK_FALSE(with(0, 0).ok());
  for (const int bit : {0x20, 0x40, 0x80}) CHECK_FALSE(with(3, std::to_integer<int>(good[3]) | bit).ok());
  CHECK_FALSE(with(62, 1).ok());
  CHECK_FALSE(with(63, 1).ok());
  CHECK_FALSE(with(8, 3).ok());      // a checked payload of 3 bytes cannot hold its CRC
  CHECK_FALSE(with(11, 0x20).ok());  // half a GiB
}

TEST_CASE("what is too large for a frame is refused before it is sent") {
  Frame frame;
  frame.metadata.resize(kMaxMetadataBytes);
  CHECK(encode_head(frame).value().size() == kMaxHeadBytes);
  frame.metadata.resize(kMaxMetadataBytes + 1);
  CHECK(encode_head(frame).error().kind == ErrorKind::kExhausted);
  std::byte one{};
  Frame wide;  // never read, so that the test needs no 256 MiB
  wide.payload = Buffer::adopt({&one, kMaxPayloadBytes + 1}, [] {});
  CHECK(encode_head(wide).error().kind == ErrorKind::kExhausted);
}

TEST_CASE("a checked payload comes back without its trailer, a broken one is refused") {
  const Frame frame = example_frame();
  const auto head = decode_head(encode_head(frame).value()).value();
  const auto trailer = payload_trailer(frame.payload);
  std::vector<std::byte> wire(frame.payload.bytes().begin(), frame.payload.bytes().end());
  wire.insert(wire.end(), trailer.begin(), trailer.end());

  const auto payload = check_payload(head, Buffer::copy_of(wire)).value();
  REQUIRE(payload.size() == frame.payload.size());
  CHECK(std::memcmp(payload.bytes().data(), frame.payload.bytes().data(), payload.size()) == 0);

  for (std::size_t bit = 0; bit < wire.size() * 8; ++bit) {
    auto broken = wire;
    broken[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    CHECK(check_payload(head, Buffer::copy_of(broken)).error().kind == ErrorKind::kMalformed);
  }
  wire.pop_back();
  CHECK(check_payload(head, Buffer::copy_of(wire)).error().kind == ErrorKind::kMalformed);
}

TEST_CASE("an unchecked payload passes as it is when its length is right") {
  Frame frame = example_frame();
  frame.header.payload_checked = false;
  const auto head = decode_head(encode_head(frame).value()).value();
  CHECK(head.payload_bytes == frame.payload.size());
  CHECK(check_payload(head, frame.payload).value().size() == frame.payload.size());
  CHECK_FALSE(check_payload(head, frame.payload.slice(0, 3)).ok());
  Frame bare;
  bare.header.payload_checked = true;  // a checked empty payload is its CRC alone
  const auto bare_head = decode_head(encode_head(bare).value()).value();
  CHECK(bare_head.payload_bytes == 4);
  CHECK(check_payload(bare_head, Buffer::copy_of(payload_trailer(bare.payload))).value().empty());
}

}  // namespace
}  // namespace consort::runtime
