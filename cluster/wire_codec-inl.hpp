// How a message struct becomes one Cap'n Proto segment and back, within limits. Included by codec sources only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <capnp/message.h>
#include <kj/exception.h>

#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/buffer.hpp"
#include "runtime/message.hpp"
#include "runtime/outcome.hpp"

namespace consort::cluster::wire {

// A reader may visit every word four times: getters count again at each call, and a hostile message must not amplify.
inline constexpr std::uint64_t kTraversalFactor = 4;
inline constexpr std::uint64_t kTraversalSlackWords = 1024;
inline constexpr int kNestingLimit = 8;                               // our deepest schema has five levels
inline constexpr std::size_t kScratchWords = 1024;                    // 8 KiB
inline constexpr std::size_t kMaxTextBytes = 4096;                    // names, sentences
inline constexpr std::size_t kMaxTableBytes = std::size_t{64} << 20;  // 60,000 parts of the widest model take 3 MiB

// The segment of a built message as bytes: one segment, without a segment table, zeroed where unused.
// `fill(Schema::Builder)` writes the root.
template <class Schema, class Fill>
std::vector<std::byte> encode_segment(Fill&& fill) {
  ::capnp::word scratch[kScratchWords];      // more than the metadata of a frame can hold
  std::memset(scratch, 0, sizeof(scratch));  // stale stack bytes must not travel
  ::capnp::MallocMessageBuilder builder(kj::arrayPtr(scratch, kScratchWords));
  auto root = builder.template initRoot<Schema>();
  fill(root);
  const auto take = [](::capnp::MessageBuilder& message) {
    const auto segments = message.getSegmentsForOutput();
    CONSORT_CHECK(segments.size() == 1, segments.size());
    const auto bytes = segments[0].asBytes();
    std::vector<std::byte> out(bytes.size());
    std::memcpy(out.data(), bytes.begin(), bytes.size());
    return out;
  };
  if (builder.getSegmentsForOutput().size() == 1) return take(builder);
  // It outgrew the scratch: once more, into a segment of the exact size.
  ::capnp::MallocMessageBuilder whole(static_cast<unsigned>(root.asReader().totalSize().wordCount + 16),
                                      ::capnp::AllocationStrategy::GROW_HEURISTICALLY);
  whole.setRoot(root.asReader());
  return take(whole);
}

// A message whose content is its metadata. kExhausted where it is too large for a frame's head.
template <class Schema, class Fill>
runtime::Outcome<runtime::WireMessage> encode(Fill&& fill, runtime::Buffer payload = {}) {
  runtime::WireMessage message{encode_segment<Schema>(std::forward<Fill>(fill)), std::move(payload)};
  if (message.metadata.size() > runtime::kMaxMetadataBytes) {
    return runtime::failure(runtime::ErrorKind::kExhausted,
                            "a message's metadata has " + std::to_string(message.metadata.size()) +
                                " bytes, a frame holds " + std::to_string(runtime::kMaxMetadataBytes));
  }
  return message;
}

// A message whose content is a table that may exceed a frame's head: it travels as the payload, also one segment.
template <class Schema, class Fill>
runtime::Outcome<runtime::WireMessage> encode_table(Fill&& fill) {
  const std::vector<std::byte> table = encode_segment<Schema>(std::forward<Fill>(fill));
  return runtime::WireMessage{{}, runtime::Buffer::copy_of(table)};
}

// Opens one segment and hands its root to `read(Schema::Reader) -> Outcome<M>`. Whatever Cap'n Proto throws is
// kMalformed.
template <class Schema, class Read>
auto decode(std::span<const std::byte> bytes, Read&& read) -> decltype(read(std::declval<typename Schema::Reader>())) {
  using runtime::ErrorKind;
  if (bytes.empty() || bytes.size() % sizeof(::capnp::word) != 0 || bytes.size() > kMaxTableBytes) {
    return runtime::failure(ErrorKind::kMalformed,
                            "a message of " + std::to_string(bytes.size()) + " bytes is not one Cap'n Proto segment");
  }
  const std::size_t words = bytes.size() / sizeof(::capnp::word);
  try {
    kj::Array<::capnp::word> aligned;  // only where the wire left the bytes unaligned
    const auto* first = reinterpret_cast<const ::capnp::word*>(bytes.data());
    if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(std::uint64_t) != 0) {
      aligned = kj::heapArray<::capnp::word>(words);
      std::memcpy(aligned.begin(), bytes.data(), bytes.size());
      first = aligned.begin();
    }
    ::capnp::ReaderOptions options;
    options.traversalLimitInWords = kTraversalFactor * words + kTraversalSlackWords;
    options.nestingLimit = kNestingLimit;
    const kj::ArrayPtr<const ::capnp::word> segment(first, words);
    ::capnp::SegmentArrayMessageReader reader(kj::arrayPtr(&segment, 1), options);
    return read(reader.getRoot<Schema>());
  } catch (const kj::Exception& error) {
    return runtime::failure(ErrorKind::kMalformed,
                            std::string("a message does not decode: ") + error.getDescription().cStr());
  }
}

// Text with a cap; what is longer is refused by throwing into decode().
template <class TextReader>
std::string text(TextReader reader, std::size_t max_bytes = kMaxTextBytes) {
  KJ_REQUIRE(reader.size() <= max_bytes, "a text is too long", reader.size());
  return std::string(reader.cStr(), reader.size());
}

// The length of a list, checked before anything is reserved for it.
template <class ListReader>
std::size_t list_length(ListReader reader, std::size_t max_length) {
  KJ_REQUIRE(reader.size() <= max_length, "a list is too long", reader.size());
  return reader.size();
}

}  // namespace consort::cluster::wire
