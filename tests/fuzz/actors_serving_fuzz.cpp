// Fuzzes every message of serving: what decodes must encode and decode again.
// Input: u8 which message, u16 length of the metadata, metadata, payload.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>

#include "actors/serving/step_messages.hpp"
#include "runtime/check.hpp"

using namespace consort;
using namespace consort::actors;
using runtime::Buffer;
using runtime::Codec;

namespace {

template <class M>
void try_message(std::span<const std::byte> metadata, const Buffer& payload) {
  const auto message = Codec<M>::decode(metadata, payload);
  if (!message.ok()) return;
  const auto wire = Codec<M>::encode(*message);
  if (!wire.ok()) return;  // Cap'n Proto may lay out what it read in more bytes than a head holds
  CONSORT_CHECK(Codec<M>::decode(wire->metadata, wire->payload).ok());
}

using Try = void (*)(std::span<const std::byte>, const Buffer&);
constexpr Try kMessages[] = {
    try_message<OpenLedger>,      try_message<LedgerOpened>,   try_message<RunStep>,
    try_message<StepDone>,        try_message<GenerateTokens>, try_message<GenerationAccepted>,
    try_message<TokensGenerated>, try_message<GrantTokens>,    try_message<CancelGeneration>,
    try_message<GenerationEnded>, try_message<ComputeLogits>,  try_message<LogitsComputed>,
    try_message<ReadLogitsSlice>, try_message<LogitsSlice>,    try_message<ReleaseLogits>,
    try_message<WarmUp>,          try_message<WarmUpDone>,
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  const auto announced = static_cast<std::size_t>(data[1] | (data[2] << 8));
  const std::span<const std::byte> rest(reinterpret_cast<const std::byte*>(data + 3), size - 3);
  const auto metadata = rest.first(std::min(announced, rest.size()));
  kMessages[data[0] % std::size(kMessages)](metadata, Buffer::copy_of(rest.subspan(metadata.size())));
  return 0;
}
