// Fuzzes what an ExpertGroup and a Router decode: metadata and payload of ComputeParts and PartOutputs. What decodes is
// walked as the actors walk it. Input: u8 which message, u16 length of the metadata, metadata, payload.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <vector>

#include "actors/experts/part_messages.hpp"
#include "runtime/check.hpp"

using namespace consort;
using runtime::Buffer;
using runtime::Codec;

namespace {

template <class M>
void check_again(const M& message) {
  const auto wire = Codec<M>::encode(message);
  CONSORT_CHECK(wire.ok());
  CONSORT_CHECK(Codec<M>::decode(wire->metadata, wire->payload).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  const auto announced = static_cast<std::size_t>(data[1] | (data[2] << 8));
  const std::span<const std::byte> rest(reinterpret_cast<const std::byte*>(data + 3), size - 3);
  const auto metadata = rest.first(std::min(announced, rest.size()));
  const Buffer payload = Buffer::copy_of(rest.subspan(metadata.size()));
  if (data[0] % 2 == 1) {
    const auto outputs = Codec<actors::PartOutputs>::decode(metadata, payload);
    if (outputs.ok()) check_again(*outputs);
    return 0;
  }
  const auto message = Codec<actors::ComputeParts>::decode(metadata, payload);
  if (!message.ok()) return 0;
  float sum = 0;
  for (const auto& part : message->parts()) {
    for (const std::uint32_t row : part.rows) {
      for (std::uint32_t i = 0; i < message->hidden; ++i) sum += message->rows().f32(row)[i];
    }
  }
  check_again(*message);
  return sum == 12345.0F ? 1 : 0;  // so that the reads are not left out
}
