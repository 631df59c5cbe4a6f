// CRC32C (Castagnoli polynomial 0x1EDC6F41, reflected), by the CPU's instruction where there is one, else by tables.
// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cstring>

#include "runtime/frame.hpp"

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace consort::runtime {
namespace {

// tables[0] advances by one byte; tables[k] by one byte followed by k zero bytes ("slicing by 8").
using Tables = std::array<std::array<std::uint32_t, 256>, 8>;
constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0x82F63B78u : 0u);
    tables[0][byte] = crc;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 0xFFu];
    }
  }
  return tables;
}
constexpr Tables kTables = make_tables();

std::uint32_t by_tables(const std::byte* data, std::size_t size, std::uint32_t crc) {
  while (size >= 8) {
    std::uint64_t word;  // little-endian, as is all of the wire
    std::memcpy(&word, data, 8);
    word ^= crc;
    crc = 0;
    for (std::size_t i = 0; i < 8; ++i) crc ^= kTables[7 - i][(word >> (8 * i)) & 0xFFu];
    data += 8;
    size -= 8;
  }
  for (; size > 0; ++data, --size) crc = (crc >> 8) ^ kTables[0][(crc ^ static_cast<std::uint32_t>(*data)) & 0xFFu];
  return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) std::uint32_t by_instruction(const std::byte* data, std::size_t size,
                                                               std::uint32_t crc) {
  std::uint64_t wide = crc;
  for (; size >= 8; data += 8, size -= 8) {
    std::uint64_t word;
    std::memcpy(&word, data, 8);
    wide = _mm_crc32_u64(wide, word);
  }
  crc = static_cast<std::uint32_t>(wide);
  for (; size > 0; ++data, --size) crc = _mm_crc32_u8(crc, static_cast<unsigned char>(*data));
  return crc;
}
bool has_instruction() { return __builtin_cpu_supports("sse4.2") != 0; }
#elif defined(__aarch64__) && defined(__linux__)
__attribute__((target("+crc"))) std::uint32_t by_instruction(const std::byte* data, std::size_t size,
                                                             std::uint32_t crc) {
  for (; size >= 8; data += 8, size -= 8) {
    std::uint64_t word;
    std::memcpy(&word, data, 8);
    crc = __builtin_aarch64_crc32cx(crc, word);
  }
  for (; size > 0; ++data, --size) crc = __builtin_aarch64_crc32cb(crc, static_cast<unsigned char>(*data));
  return crc;
}
bool has_instruction() { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }
#else
std::uint32_t by_instruction(const std::byte* data, std::size_t size, std::uint32_t crc) {
  return by_tables(data, size, crc);
}
bool has_instruction() { return false; }
#endif

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t crc) {
  static const bool fast = has_instruction();
  return ~(fast ? by_instruction(bytes.data(), bytes.size(), ~crc) : by_tables(bytes.data(), bytes.size(), ~crc));
}

std::uint32_t crc32c_by_tables(std::span<const std::byte> bytes, std::uint32_t crc) {
  return ~by_tables(bytes.data(), bytes.size(), ~crc);
}

}  // namespace consort::runtime
