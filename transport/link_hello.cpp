// SPDX-License-Identifier: Apache-2.0
#include "transport/link_hello.hpp"

#include <sodium.h>

#include <algorithm>
#include <string>

#include "runtime/frame.hpp"
#include "transport/wire_bytes.hpp"

namespace consort::transport {

using runtime::ErrorKind;
using runtime::failure;

namespace {

constexpr std::uint32_t kHelloMagic = 0x4C485343;    // "CSHL"
constexpr std::uint32_t kVerdictMagic = 0x44565343;  // "CSVD"
constexpr std::size_t kEarlyBytes = 24;              // up to and with `connection`: the same in every version
constexpr std::uint8_t kLaneCount = 2;

}  // namespace

std::string_view name(VerdictCode code) {
  switch (code) {
    case VerdictCode::kAccepted:
      return "accepted";
    case VerdictCode::kWrongVersion:
      return "it speaks another version of the hello; run the same release on every node";
    case VerdictCode::kWrongToken:
      return "the token is not that of its present incarnation";
    case VerdictCode::kWrongNode:
      return "the address belongs to another node";
    case VerdictCode::kFull:
      return "its table of peers is full";
    case VerdictCode::kClosed:
      return "it closed the connection";
    case VerdictCode::kUnauthorised:
      return "the key does not belong to this node id";
    case VerdictCode::kTaken:
      return "received";
    case VerdictCode::kDamaged:
      return "a frame came damaged";
  }
  return "unknown";
}

std::array<std::byte, kHelloBytes> encode_hello(const Hello& hello) {
  std::array<std::byte, kHelloBytes> bytes{};
  put(bytes, 0, kHelloMagic);
  put(bytes, 4, kHelloVersion);
  put(bytes, 6, hello.lane);
  put(bytes, 7, static_cast<std::uint8_t>(hello.windowed ? 1 : 0));
  put(bytes, 8, hello.source_node.value);
  put(bytes, 12, hello.source_incarnation.value);
  put(bytes, 16, hello.connection);
  std::copy(hello.token.begin(), hello.token.end(), bytes.begin() + 24);
  put(bytes, 40, hello.target_node.value);
  put(bytes, 44, runtime::crc32c(std::span(bytes).first(44)));
  return bytes;
}

runtime::Outcome<Hello> decode_hello(std::span<const std::byte> bytes, Hello* early) {
  if (bytes.size() < kEarlyBytes)
    return failure(ErrorKind::kMalformed, "a hello of " + std::to_string(bytes.size()) + " bytes");
  if (get<std::uint32_t>(bytes, 0) != kHelloMagic)
    return failure(ErrorKind::kMalformed, "a hello without its magic number");
  Hello hello;
  hello.lane = get<std::uint8_t>(bytes, 6);
  hello.source_node = runtime::NodeId(get<std::uint32_t>(bytes, 8));
  hello.source_incarnation = runtime::Incarnation(get<std::uint32_t>(bytes, 12));
  hello.connection = get<std::uint64_t>(bytes, 16);
  if (early != nullptr) *early = hello;
  const auto version = get<std::uint16_t>(bytes, 4);
  if (version != kHelloVersion) {
    return failure(ErrorKind::kInvalid, "a hello of version " + std::to_string(version) + ", this is version " +
                                            std::to_string(kHelloVersion));
  }
  if (bytes.size() != kHelloBytes)
    return failure(ErrorKind::kMalformed, "a hello of " + std::to_string(bytes.size()) + " bytes");
  if (get<std::uint32_t>(bytes, 44) != runtime::crc32c(bytes.first(44))) {
    return failure(ErrorKind::kMalformed, "a hello whose checksum does not match");
  }
  const auto flags = get<std::uint8_t>(bytes, 7);
  hello.windowed = flags == 1;
  if (hello.lane >= kLaneCount || flags > 1) return failure(ErrorKind::kMalformed, "a hello for no lane");
  if (hello.source_node.value == 0 || hello.connection == 0)
    return failure(ErrorKind::kMalformed, "a hello from nobody");
  std::copy_n(bytes.begin() + 24, hello.token.size(), hello.token.begin());
  hello.target_node = runtime::NodeId(get<std::uint32_t>(bytes, 40));
  return hello;
}

std::array<std::byte, kVerdictBytes> encode_verdict(const Verdict& verdict) {
  std::array<std::byte, kVerdictBytes> bytes{};
  put(bytes, 0, kVerdictMagic);
  put(bytes, 4, kHelloVersion);
  put(bytes, 6, verdict.lane);
  put(bytes, 7, static_cast<std::uint8_t>(verdict.code));
  put(bytes, 8, verdict.connection);
  put(bytes, 16, verdict.node.value);
  put(bytes, 20, runtime::crc32c(std::span(bytes).first(20)));
  return bytes;
}

// The version is not compared: a verdict keeps its shape, so that "wrong version" can be understood by both.
runtime::Outcome<Verdict> decode_verdict(std::span<const std::byte> bytes) {
  if (bytes.size() != kVerdictBytes || get<std::uint32_t>(bytes, 0) != kVerdictMagic ||
      get<std::uint32_t>(bytes, 20) != runtime::crc32c(bytes.first(20))) {
    return failure(ErrorKind::kMalformed, "a verdict with wrong length, magic number or checksum");
  }
  Verdict verdict;
  verdict.lane = get<std::uint8_t>(bytes, 6);
  const auto code = get<std::uint8_t>(bytes, 7);
  if (verdict.lane >= kLaneCount || code > static_cast<std::uint8_t>(VerdictCode::kDamaged)) {
    return failure(ErrorKind::kMalformed, "a verdict with an unknown lane or code");
  }
  verdict.code = static_cast<VerdictCode>(code);
  verdict.connection = get<std::uint64_t>(bytes, 8);
  verdict.node = runtime::NodeId(get<std::uint32_t>(bytes, 16));
  return verdict;
}

bool same_token(const runtime::LinkToken& a, const runtime::LinkToken& b) {
  return sodium_memcmp(a.data(), b.data(), a.size()) == 0;
}

runtime::LinkToken fresh_token() {
  runtime::LinkToken token{};
  randombytes_buf(token.data(), token.size());
  return token;
}

std::uint64_t fresh_connection() {
  std::uint64_t connection = 0;
  while (connection == 0) randombytes_buf(&connection, sizeof connection);
  return connection;
}

}  // namespace consort::transport
