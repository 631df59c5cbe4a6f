// The metadata of an error reply (FrameType::kError): u8 ErrorKind, then UTF-8 text of at most 512 bytes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "runtime/outcome.hpp"

namespace consort::runtime {

inline constexpr std::size_t kMaxErrorTextBytes = 512;  // a sentence for whoever is on call; longer text is cut

std::vector<std::byte> encode_error(const Error& error);
// What does not parse (no such kind, too long, not UTF-8) is itself a kMalformed error: an answer it is either way.
Error decode_error(std::span<const std::byte> metadata);

}  // namespace consort::runtime
