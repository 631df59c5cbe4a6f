// Fuzzes what a link does with bytes from the network: decode_head, then check_payload with the rest of the input.
// Input: u16 length of the head, head, payload. A head that decodes must encode to the same bytes.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "runtime/check.hpp"
#include "runtime/frame.hpp"

using namespace consort::runtime;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::size_t announced = static_cast<std::size_t>(data[0] | (data[1] << 8));
  const std::span<const std::byte> rest(reinterpret_cast<const std::byte*>(data + 2), size - 2);
  const auto head_bytes = rest.first(std::min(announced, rest.size()));
  const auto payload_bytes = rest.subspan(head_bytes.size());

  // A random CRC never fits, so the fuzzer sees both worlds: the bytes as they are, and with their CRC repaired.
  std::vector<std::byte> repaired(head_bytes.begin(), head_bytes.end());
  if (repaired.size() >= kFrameHeaderBytes) {
    std::memset(repaired.data() + 12, 0, 4);
    const std::uint32_t crc = crc32c(repaired);
    std::memcpy(repaired.data() + 12, &crc, 4);
  }
  for (const auto candidate : {head_bytes, std::span<const std::byte>(repaired)}) {
    const auto head = decode_head(candidate);
    if (!head.ok()) continue;
    const auto payload = check_payload(*head, Buffer::copy_of(payload_bytes));
    if (!payload.ok()) continue;
    Frame frame{head->header, head->metadata, *payload};
    const auto again = encode_head(frame);
    CONSORT_CHECK(again.ok());
    CONSORT_CHECK(std::equal(again->begin(), again->end(), candidate.begin(), candidate.end()));
  }
  return 0;
}
