// FrameIntake: what every link does with bytes that come in: check, count by reason, answer in words where it can.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "runtime/buffer.hpp"
#include "runtime/frame.hpp"
#include "runtime/outcome.hpp"

namespace consort::transport {

// Why something that came in was not delivered.
enum class FrameFault : std::uint8_t {
  kTruncated,  // shorter than a header, or than the header announces
  kWrongMagic,
  kWrongVersion,
  kWrongHead,  // lengths, enumerators or checksum of header and metadata
  kOversized,
  kPayloadLength,  // another payload length than the header announces
  kPayloadChecksum,
  kNoHello,     // anything before a valid hello
  kWrongHello,  // a hello that does not decode, of another version, or for another node
  kWrongToken,
  kWrongSource,   // the header names another source than the hello or the key
  kUnauthorised,  // a key outside the allow-list
  kNoMemory,      // no buffer to receive the payload into
  kNoAnswer,      // an answer in words that could not be sent
};
inline constexpr std::size_t kFrameFaultCount = 14;
std::string_view name(FrameFault fault);

// Counters of one link, owned by its loop.
struct LinkCounters {
  std::uint64_t frames_sent = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t frames_received = 0;
  std::uint64_t bytes_received = 0;
  std::array<std::uint64_t, kFrameFaultCount> faults{};

  std::uint64_t fault(FrameFault which) const { return faults[static_cast<std::size_t>(which)]; }
  std::uint64_t fault_sum() const;
};

class FrameIntake {
 public:
  // Who this link is: answers in words are sent by it.
  void set_identity(runtime::NodeId node, runtime::Incarnation incarnation) {
    node_ = node;
    incarnation_ = incarnation;
  }

  // The steps, in order: header and metadata; the payload's length, before anything is fetched or allocated for it
  // (`payload_bytes` is what the wire holds, with its trailer); the payload's own checksum.
  // kMalformed: the frame is damaged. Who sent it counts it as sent, with its credit, and may wait for an answer: so
  // the link ends the connection, both sides hear kLost, and whoever waited is told. kExhausted: a whole frame that is
  // refused; the connection goes on, and the refusal is said in words.
  runtime::Outcome<runtime::Head> open_head(std::span<const std::byte> head);
  runtime::Status expect_payload(const runtime::Head& head, std::size_t payload_bytes);
  runtime::Outcome<runtime::Frame> open_payload(runtime::Head head, runtime::Buffer payload);

  // What to tell about a whole frame that cannot be delivered. An ask is answered to its sender; a reply completes its
  // asker on this node. Nobody waits for a tell or an error: nothing.
  struct Answer {
    bool to_sender = false;  // else to the sink of this node
    runtime::Frame frame;
  };
  std::optional<Answer> answer(const runtime::FrameHeader& header, const runtime::Error& error) const;

  void count(FrameFault fault) { ++counters_.faults[static_cast<std::size_t>(fault)]; }
  LinkCounters& counters() { return counters_; }
  const LinkCounters& counters() const { return counters_; }

 private:
  runtime::NodeId node_;
  runtime::Incarnation incarnation_;
  LinkCounters counters_;
};

}  // namespace consort::transport
