// Cap'n Proto metadata of one message: written into one segment, read within limits. Included by codecs (.cpp) only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <capnp/message.h>
#include <kj/exception.h>

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "runtime/frame.hpp"
#include "runtime/outcome.hpp"

namespace consort::actors {

// fill(Schema::Builder). kExhausted where the metadata outgrows the frame's head; tensors belong into the payload.
template <class Schema, class Fill>
runtime::Outcome<std::vector<std::byte>> write_metadata(Fill fill) {
  constexpr std::size_t kWords = runtime::kMaxMetadataBytes / sizeof(capnp::word);
  capnp::MallocMessageBuilder builder(kWords, capnp::AllocationStrategy::FIXED_SIZE);
  fill(builder.initRoot<Schema>());
  const auto segments = builder.getSegmentsForOutput();
  if (segments.size() != 1 || segments[0].size() > kWords) {
    return runtime::failure(runtime::ErrorKind::kExhausted, "a message's metadata outgrows the frame's head of 8,100 bytes");
  }
  const auto bytes = segments[0].asBytes();
  std::vector<std::byte> out(bytes.size());
  std::memcpy(out.data(), bytes.begin(), bytes.size());
  return out;
}

// read(Schema::Reader) -> Outcome<M>. What Cap'n Proto refuses becomes kMalformed.
template <class M, class Schema, class Read>
runtime::Outcome<M> read_metadata(std::span<const std::byte> metadata, const char* message_name, Read read) {
  const auto malformed = [&](const std::string& why) {
    return runtime::failure(runtime::ErrorKind::kMalformed, std::string(message_name) + ": " + why);
  };
  if (metadata.empty() || metadata.size() % sizeof(capnp::word) != 0 || metadata.size() > runtime::kMaxMetadataBytes) {
    return malformed("metadata of " + std::to_string(metadata.size()) + " bytes is no segment");
  }
  // Copied: Cap'n Proto wants words that are aligned, and the head of a frame is not.
  const std::size_t word_count = metadata.size() / sizeof(capnp::word);
  std::vector<capnp::word> words(word_count);
  std::memcpy(words.data(), metadata.data(), metadata.size());
  const kj::ArrayPtr<const capnp::word> segment(words.data(), word_count);
  capnp::ReaderOptions limits;
  limits.traversalLimitInWords = 4 * word_count + 1024;
  limits.nestingLimit = 8;
  try {
    capnp::SegmentArrayMessageReader reader(kj::arrayPtr(&segment, 1), limits);
    runtime::Outcome<M> message = read(reader.getRoot<Schema>());
    if (!message.ok()) return malformed(message.error().text);
    return message;
  } catch (const kj::Exception& refused) {
    return malformed(refused.getDescription().cStr());
  }
}

// What a reader's checks return; read_metadata prefixes the message's name.
inline runtime::Error malformed(std::string why) { return {runtime::ErrorKind::kMalformed, std::move(why)}; }

inline std::string text_of(capnp::Text::Reader text) { return std::string(text.begin(), text.size()); }

}  // namespace consort::actors
