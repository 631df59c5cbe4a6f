// Hello and Verdict: the first words on an endpoint, and their answer. Fixed little-endian bytes; grammar:
// docs/wire.md. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "runtime/env.hpp"
#include "runtime/ids.hpp"
#include "runtime/outcome.hpp"

namespace consort::transport {

inline constexpr std::uint16_t kHelloVersion = 1;
inline constexpr std::size_t kHelloBytes = 48;
inline constexpr std::size_t kVerdictBytes = 24;

// What the connecting side says first on every endpoint. Nothing else is accepted before it.
struct Hello {
  std::uint8_t lane = 0;  // 0: system and decode; 1: bulk and background
  runtime::NodeId source_node;
  runtime::Incarnation source_incarnation;
  std::uint64_t connection = 0;  // chosen at random by the connecting side; the verdict echoes it
  runtime::LinkToken token{};    // the receiver's token of this incarnation
  runtime::NodeId target_node;
  bool windowed = false;  // the sender waits for kTaken: see kLaneWindow in ucx_worker-inl.hpp
};

enum class VerdictCode : std::uint8_t {
  kAccepted = 0,
  kWrongVersion = 1,
  kWrongToken = 2,
  kWrongNode = 3,
  kFull = 4,
  kClosed = 5,  // said by a side that leaves: your connection is no longer heard
  kUnauthorised = 6,
  kTaken = 7,    // kTakenElements more of a windowed lane were received
  kDamaged = 8,  // a frame of your connection came damaged: what follows it is no longer heard
};
std::string_view name(VerdictCode code);

struct Verdict {
  VerdictCode code = VerdictCode::kAccepted;
  std::uint8_t lane = 0;
  std::uint64_t connection = 0;
  runtime::NodeId node;  // who says it
};

std::array<std::byte, kHelloBytes> encode_hello(const Hello& hello);
// kMalformed for length, magic, checksum or lane; kInvalid for another version. The fields before the token keep their
// place in every version, so that a hello of another version can be refused by name: then `early` is filled.
runtime::Outcome<Hello> decode_hello(std::span<const std::byte> bytes, Hello* early = nullptr);

std::array<std::byte, kVerdictBytes> encode_verdict(const Verdict& verdict);
runtime::Outcome<Verdict> decode_verdict(std::span<const std::byte> bytes);

// Of connections each way: may they be of one life of the peer? A side that did not know it says 0.
constexpr bool same_life(runtime::Incarnation a, runtime::Incarnation b) {
  return a == b || a.value == 0 || b.value == 0;
}
// Equal without telling by its time where the first difference is.
bool same_token(const runtime::LinkToken& a, const runtime::LinkToken& b);
// 128 bits from the kernel.
runtime::LinkToken fresh_token();
std::uint64_t fresh_connection();  // never 0

}  // namespace consort::transport
