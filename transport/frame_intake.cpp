// SPDX-License-Identifier: Apache-2.0
#include "transport/frame_intake.hpp"

#include <numeric>
#include <string>
#include <utility>

#include "runtime/error_reply.hpp"
#include "transport/wire_bytes.hpp"

namespace consort::transport {

using runtime::Error;
using runtime::ErrorKind;
using runtime::failure;
using runtime::Frame;
using runtime::FrameHeader;
using runtime::FrameType;
using runtime::Head;

std::string_view name(FrameFault fault) {
  switch (fault) {
    case FrameFault::kTruncated:
      return "truncated";
    case FrameFault::kWrongMagic:
      return "wrong_magic";
    case FrameFault::kWrongVersion:
      return "wrong_version";
    case FrameFault::kWrongHead:
      return "wrong_head";
    case FrameFault::kOversized:
      return "oversized";
    case FrameFault::kPayloadLength:
      return "payload_length";
    case FrameFault::kPayloadChecksum:
      return "payload_checksum";
    case FrameFault::kNoHello:
      return "no_hello";
    case FrameFault::kWrongHello:
      return "wrong_hello";
    case FrameFault::kWrongToken:
      return "wrong_token";
    case FrameFault::kWrongSource:
      return "wrong_source";
    case FrameFault::kUnauthorised:
      return "unauthorised";
    case FrameFault::kNoMemory:
      return "no_memory";
    case FrameFault::kNoAnswer:
      return "no_answer";
  }
  return "unknown";
}

std::uint64_t LinkCounters::fault_sum() const {
  return std::accumulate(faults.begin(), faults.end(), std::uint64_t{0});
}

runtime::Outcome<Head> FrameIntake::open_head(std::span<const std::byte> bytes) {
  const auto refuse = [&](FrameFault fault, std::string text) {
    count(fault);
    return failure(ErrorKind::kMalformed, std::move(text));
  };
  // The first three fields are looked at before decode_head only to count by reason.
  if (bytes.size() < runtime::kFrameHeaderBytes) {
    return refuse(FrameFault::kTruncated, "a frame of " + std::to_string(bytes.size()) + " bytes has no header");
  }
  if (bytes.size() > runtime::kMaxHeadBytes) {
    return refuse(FrameFault::kOversized, "a frame head of " + std::to_string(bytes.size()) + " bytes");
  }
  if (get<std::uint16_t>(bytes, 0) != runtime::kFrameMagic) return refuse(FrameFault::kWrongMagic, "not a frame");
  if (get<std::uint8_t>(bytes, 2) != runtime::kFrameVersion) {
    return refuse(FrameFault::kWrongVersion, "a frame of version " + std::to_string(get<std::uint8_t>(bytes, 2)) +
                                                 "; run the same release on every node");
  }
  if (bytes.size() < runtime::kFrameHeaderBytes + get<std::uint16_t>(bytes, 6)) {
    return refuse(FrameFault::kTruncated, "a frame shorter than its metadata");
  }
  auto head = runtime::decode_head(bytes);
  if (!head.ok()) count(FrameFault::kWrongHead);
  return head;
}

runtime::Status FrameIntake::expect_payload(const Head& head, std::size_t payload_bytes) {
  constexpr std::size_t kMaxWireBytes = runtime::kMaxPayloadBytes;
  if (payload_bytes > kMaxWireBytes || head.payload_bytes > kMaxWireBytes) {
    count(FrameFault::kOversized);
    return failure(ErrorKind::kExhausted, "a payload of " + std::to_string(payload_bytes) + " bytes; the limit is " +
                                              std::to_string(runtime::kMaxPayloadBytes));
  }
  if (payload_bytes != head.payload_bytes) {
    count(FrameFault::kPayloadLength);
    return failure(ErrorKind::kMalformed, "the payload has " + std::to_string(payload_bytes) +
                                              " bytes, the header announced " + std::to_string(head.payload_bytes));
  }
  return runtime::done();
}

runtime::Outcome<Frame> FrameIntake::open_payload(Head head, runtime::Buffer payload) {
  const std::size_t wire_bytes = runtime::kFrameHeaderBytes + head.metadata.size() + payload.size();
  auto checked = runtime::check_payload(head, std::move(payload));
  if (!checked.ok()) {
    count(FrameFault::kPayloadChecksum);
    return std::move(checked).error();
  }
  ++counters_.frames_received;
  counters_.bytes_received += wire_bytes;
  return Frame{head.header, std::move(head.metadata), std::move(checked).value()};
}

std::optional<FrameIntake::Answer> FrameIntake::answer(const FrameHeader& header, const Error& error) const {
  if (header.type != FrameType::kAsk && header.type != FrameType::kReply) return std::nullopt;
  Answer answer;
  answer.to_sender = header.type == FrameType::kAsk;
  FrameHeader& to = answer.frame.header;
  to.message_class = header.message_class;
  to.type = FrameType::kError;
  to.kind = 0;
  to.correlation = header.correlation;
  if (answer.to_sender) {
    to.source_node = node_;
    to.source_incarnation = incarnation_;
    to.source_actor = header.target_actor;
    to.target_incarnation = header.source_incarnation;
    to.target_actor = header.source_actor;
  } else {
    to = header;
    to.type = FrameType::kError;
    to.kind = 0;
    to.payload_checked = false;
  }
  answer.frame.metadata = runtime::encode_error(error);
  return answer;
}

}  // namespace consort::transport
