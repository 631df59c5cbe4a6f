// Fuzzes the codecs of the cluster's messages. Input: u8 which message, u16 length of the metadata, metadata, payload.
// What decodes must encode again, and decode from that.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <vector>

#include "cluster/messages.hpp"
#include "runtime/check.hpp"

using namespace consort::cluster;
using namespace consort::runtime;

namespace {

template <class M>
void try_one(std::span<const std::byte> metadata, std::span<const std::byte> payload) {
  auto message = Codec<M>::decode(metadata, Buffer::copy_of(payload));
  if (!message.ok()) {
    CONSORT_CHECK(message.error().kind == ErrorKind::kMalformed);
    return;
  }
  auto again = Codec<M>::encode(*message);
  if (!again.ok()) return;  // texts at their caps may exceed a frame's head
  CONSORT_CHECK(Codec<M>::decode(again->metadata, again->payload).ok());
}

using Try = void (*)(std::span<const std::byte>, std::span<const std::byte>);
constexpr Try kTries[] = {try_one<Join>,
                          try_one<Joined>,
                          try_one<ReportProfile>,
                          try_one<PartsReady>,
                          try_one<Heartbeat>,
                          try_one<ViewUpdate>,
                          try_one<LinkEcho>,
                          try_one<AgentHello>,
                          try_one<WorkerJoined>,
                          try_one<TakeProbeTurn>,
                          try_one<ChildExited>,
                          try_one<NodeLost>,
                          try_one<EnableTrace>,
                          try_one<Shutdown>,
                          try_one<ClusterStatusReport>,
                          try_one<NodeTraceEvents>,
                          try_one<NodeFiguresRead>};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  const std::span<const std::byte> rest(reinterpret_cast<const std::byte*>(data + 3), size - 3);
  const auto metadata =
      rest.first(std::min<std::size_t>(static_cast<std::size_t>(data[1] | (data[2] << 8)), rest.size()));
  // A copy of its own, so that the sanitizer sees a read past its end.
  const std::vector<std::byte> own(metadata.begin(), metadata.end());
  kTries[data[0] % std::size(kTries)](own, rest.subspan(metadata.size()));
  return 0;
}
