// The way of a control message from ZeroMQ's parts to a frame or an answer: any bytes are counted or delivered, never a
// crash. The input is cut into parts by its own first bytes: count, then a length for each but the last.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/check.hpp"
#include "transport/control_message.hpp"
#include "transport/frame_intake.hpp"
#include "transport/link_hello.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace t = consort::transport;
  namespace r = consort::runtime;
  auto rest = std::as_bytes(std::span(data, size));
  const auto next = [&]() -> std::size_t {
    if (rest.empty()) return 0;
    const auto value = static_cast<std::size_t>(rest[0]);
    rest = rest.subspan(1);
    return value;
  };
  const std::size_t count = next() % 6;
  std::vector<std::size_t> lengths;
  for (std::size_t i = 0; i + 1 < count; ++i) lengths.push_back(next());
  std::vector<t::Bytes> parts;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t length = i < lengths.size() ? std::min(lengths[i], rest.size()) : rest.size();
    parts.push_back(rest.first(length));
    rest = rest.subspan(length);
  }
  const auto message = t::read_control(parts);
  if (!message.ok()) return 0;
  if (message->tag == t::ControlTag::kHello) return (void)t::decode_hello(message->body), 0;
  if (message->tag == t::ControlTag::kVerdict) return (void)t::decode_verdict(message->body), 0;

  t::FrameIntake intake;
  intake.set_identity(r::NodeId(1), r::Incarnation(2));
  auto head = intake.open_head(message->body);
  const auto accepted = [&] {
    if (!head.ok()) return false;
    if (const auto length = intake.expect_payload(*head, message->payload.size()); !length.ok()) {
      (void)intake.answer(head->header, length.error());
      return false;
    }
    const auto header = head->header;
    const auto frame = intake.open_payload(std::move(head).value(), r::Buffer::copy_of(message->payload));
    if (frame.ok()) return true;
    const auto answer = intake.answer(header, frame.error());
    if (answer) CONSORT_CHECK(r::encode_head(answer->frame).ok());
    return false;
  }();
  // Delivered, or counted by exactly one reason.
  CONSORT_CHECK(intake.counters().frames_received == (accepted ? 1u : 0u));
  CONSORT_CHECK(intake.counters().fault_sum() == (accepted ? 0u : 1u));
  return 0;
}
