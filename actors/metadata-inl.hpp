// Cap'n Proto metadata of one message, by the cluster's codec, with the message's name in what it refuses. Included by
// codecs (.cpp) only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cluster/wire_codec-inl.hpp"
#include "runtime/outcome.hpp"

namespace consort::actors {

// fill(Schema::Builder). kExhausted where the metadata outgrows the frame's head; tensors belong into the payload.
template <class Schema, class Fill>
runtime::Outcome<std::vector<std::byte>> write_metadata(Fill fill) {
  CONSORT_TRY(runtime::WireMessage message, cluster::wire::encode<Schema>(fill));
  return std::move(message.metadata);
}

// read(Schema::Reader) -> Outcome<M>.
template <class M, class Schema, class Read>
runtime::Outcome<M> read_metadata(std::span<const std::byte> metadata, const char* message_name, Read read) {
  runtime::Outcome<M> message = cluster::wire::decode<Schema>(metadata, read);
  if (message.ok()) return message;
  return runtime::Error{runtime::ErrorKind::kMalformed, std::string(message_name) + ": " + message.error().text};
}

// What a reader's checks return.
inline runtime::Error malformed(std::string why) { return {runtime::ErrorKind::kMalformed, std::move(why)}; }

inline std::string text_of(capnp::Text::Reader text) { return std::string(text.begin(), text.size()); }

}  // namespace consort::actors
