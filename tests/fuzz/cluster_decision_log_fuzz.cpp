// Fuzzes what the Coordinator reads at its start: its log. Bytes as they are, and the same as the content of one record
// with a right checksum. What is read must be writable, and read the same again.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstring>
#include <vector>

#include "cluster/decision_log.hpp"
#include "runtime/check.hpp"
#include "runtime/frame.hpp"

using namespace consort::cluster;
using namespace consort::runtime;

namespace {

void try_log(std::span<const std::byte> bytes) {
  const auto scan = scan_log(bytes);
  if (!scan.ok()) return;
  CONSORT_CHECK(scan->valid_bytes <= bytes.size());
  DecidedState state;
  std::vector<std::byte> again;
  std::uint64_t sequence = 1;
  for (const auto& decision : scan->decisions) {
    state.apply(decision);
    const auto record = encode_record(sequence++, decision);
    again.insert(again.end(), record.begin(), record.end());
  }
  const auto second = scan_log(again);
  CONSORT_CHECK(second.ok() && second->decisions.size() == scan->decisions.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  try_log(bytes);
  const std::size_t content = size - size % 8;
  if (content == 0 || size > 1 << 16) return 0;
  std::vector<std::byte> record(kRecordHeaderBytes + content);
  const auto put = [&](std::size_t at, auto value) { std::memcpy(record.data() + at, &value, sizeof(value)); };
  put(0, kRecordMagic);
  put(4, static_cast<std::uint32_t>(content));
  put(8, std::uint64_t{1});
  std::memcpy(record.data() + kRecordHeaderBytes, data, content);
  const std::span<const std::byte> whole(record);
  put(16, crc32c(whole.subspan(kRecordHeaderBytes), crc32c(whole.subspan(4, 12))));
  try_log(record);
  return 0;
}
