// Fuzzes the header of a safetensors file. Input: u64 bytes of the whole file, then the file's start. What is accepted
// tiles the data: every tensor inside the file, none over another, its bytes those of its dtype and shape.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>

#include "model/safetensors.hpp"
#include "runtime/check.hpp"

using namespace consort::model;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::uint64_t file_bytes = 0;
  if (size < sizeof(file_bytes)) return 0;
  std::memcpy(&file_bytes, data, sizeof(file_bytes));
  const std::span<const std::byte> start(reinterpret_cast<const std::byte*>(data) + sizeof(file_bytes),
                                         size - sizeof(file_bytes));
  (void)safetensors_header_bytes(start.first(std::min<std::size_t>(8, start.size())), file_bytes, "fuzzed");
  const auto header = parse_safetensors_header(start, file_bytes, "fuzzed");
  if (!header.ok()) {
    CONSORT_CHECK(!header.error().text.empty());
    return 0;
  }
  CONSORT_CHECK(header->data_offset <= file_bytes);
  std::uint64_t reached = 0;
  for (const TensorEntry& tensor : header->tensors) {
    CONSORT_CHECK(tensor.begin == reached && tensor.end >= tensor.begin, tensor.name);
    std::uint64_t bytes = static_cast<std::uint64_t>(consort::runtime::dtype_bytes(tensor.dtype));
    for (const std::int64_t extent : tensor.shape) bytes *= static_cast<std::uint64_t>(extent);
    CONSORT_CHECK(bytes == tensor.end - tensor.begin, tensor.name);
    reached = tensor.end;
  }
  CONSORT_CHECK(header->data_offset + reached <= file_bytes);
  return 0;
}
