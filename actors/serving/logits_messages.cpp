// Codecs of ComputeLogits and its slices, and of WarmUp.
#include "actors/metadata-inl.hpp"
#include "actors/packed_arrays.hpp"
#include "actors/serving/generation_messages.hpp"
#include "actors/serving/serving.capnp.h"

namespace consort::runtime {

using namespace actors;

namespace {

constexpr const char* kNoPayload = "a payload where there is none";
// Names are short ("routes.60.experts"); node lists are those of one cluster.
constexpr std::size_t kMaxTensorNameBytes = 64;
constexpr unsigned kMaxNodes = 1024;

template <class List>
Outcome<std::vector<NodeId>> read_nodes(List list) {
  if (list.size() > kMaxNodes) return malformed("too many nodes");
  std::vector<NodeId> nodes;
  for (const std::uint32_t node : list) nodes.push_back(NodeId{node});
  return nodes;
}

template <class List>
void write_nodes(List list, const std::vector<NodeId>& nodes) {
  for (unsigned i = 0; i < list.size(); ++i) list.set(i, nodes[i].value);
}

}  // namespace

Outcome<WireMessage> Codec<ComputeLogits>::encode(const ComputeLogits& message) {
  WireMessage out;
  CONSORT_TRY(out.metadata, write_metadata<wire::ComputeLogits>([&](auto to) {
                to.setIdCount(static_cast<std::uint32_t>(message.ids.size()));
                to.setDeadlineMs(message.deadline_ms);
              }));
  ArrayPacker arrays;
  arrays.add(message.ids);
  out.payload = arrays.buffer();
  return out;
}

Outcome<ComputeLogits> Codec<ComputeLogits>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<ComputeLogits, wire::ComputeLogits>(
      metadata, "ComputeLogits", [&](auto from) -> Outcome<ComputeLogits> {
        ComputeLogits message;
        message.deadline_ms = from.getDeadlineMs();
        ArrayUnpacker arrays(payload.bytes());
        if (from.getIdCount() > kMaxPromptTokens || !arrays.take(message.ids, from.getIdCount()) || !arrays.done()) {
          return malformed("the ids do not fit their count");
        }
        return message;
      });
}

Outcome<WireMessage> Codec<LogitsComputed>::encode(const LogitsComputed& message) {
  WireMessage out;
  CONSORT_TRY(out.metadata, write_metadata<wire::LogitsComputed>([&](auto to) {
                to.setCapture(message.capture);
                to.setTokens(message.tokens);
                to.setVocabulary(message.vocabulary);
                to.setHidden(message.hidden);
                to.setLayers(message.layers);
                to.setFirstMoeLayer(message.first_moe_layer);
                to.setTopK(message.top_k);
              }));
  return out;
}

Outcome<LogitsComputed> Codec<LogitsComputed>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<LogitsComputed, wire::LogitsComputed>(
      metadata, "LogitsComputed", [&](auto from) -> Outcome<LogitsComputed> {
        if (!payload.empty()) return malformed(kNoPayload);
        return LogitsComputed{from.getCapture(), from.getTokens(),        from.getVocabulary(), from.getHidden(),
                              from.getLayers(),  from.getFirstMoeLayer(), from.getTopK()};
      });
}

Outcome<WireMessage> Codec<ReadLogitsSlice>::encode(const ReadLogitsSlice& message) {
  WireMessage out;
  CONSORT_TRY(out.metadata, write_metadata<wire::ReadLogitsSlice>([&](auto to) {
                to.setCapture(message.capture);
                to.setTensor(message.tensor.substr(0, kMaxTensorNameBytes));
                to.setFirstByte(message.first_byte);
                to.setMaxBytes(message.max_bytes);
              }));
  return out;
}

Outcome<ReadLogitsSlice> Codec<ReadLogitsSlice>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<ReadLogitsSlice, wire::ReadLogitsSlice>(
      metadata, "ReadLogitsSlice", [&](auto from) -> Outcome<ReadLogitsSlice> {
        if (!payload.empty()) return malformed(kNoPayload);
        ReadLogitsSlice message{from.getCapture(), text_of(from.getTensor()), from.getFirstByte(), from.getMaxBytes()};
        if (message.tensor.size() > kMaxTensorNameBytes || message.max_bytes > kMaxSliceBytes) {
          return malformed("a tensor's name or slice is too long");
        }
        return message;
      });
}

Outcome<WireMessage> Codec<LogitsSlice>::encode(const LogitsSlice& message) {
  WireMessage out;
  CONSORT_TRY(out.metadata, write_metadata<wire::LogitsSlice>([&](auto to) {
                to.setTensorBytes(message.tensor_bytes);
                to.setSliceBytes(static_cast<std::uint32_t>(message.bytes.size()));
              }));
  out.payload = message.bytes;
  return out;
}

Outcome<LogitsSlice> Codec<LogitsSlice>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<LogitsSlice, wire::LogitsSlice>(metadata, "LogitsSlice", [&](auto from) -> Outcome<LogitsSlice> {
    if (payload.size() != from.getSliceBytes() || payload.size() > kMaxSliceBytes) {
      return malformed("the payload does not fit its count");
    }
    return LogitsSlice{from.getTensorBytes(), std::move(payload)};
  });
}

Outcome<WireMessage> Codec<ReleaseLogits>::encode(const ReleaseLogits& message) {
  WireMessage out;
  CONSORT_TRY(out.metadata, write_metadata<wire::ReleaseLogits>([&](auto to) { to.setCapture(message.capture); }));
  return out;
}

Outcome<ReleaseLogits> Codec<ReleaseLogits>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<ReleaseLogits, wire::ReleaseLogits>(metadata, "ReleaseLogits",
                                                           [&](auto from) -> Outcome<ReleaseLogits> {
                                                             if (!payload.empty()) return malformed(kNoPayload);
                                                             return ReleaseLogits{from.getCapture()};
                                                           });
}

Outcome<WireMessage> Codec<WarmUp>::encode(const WarmUp& message) {
  WireMessage out;
  CONSORT_TRY(out.metadata, write_metadata<wire::WarmUp>([&](auto to) { to.setDeadlineMs(message.deadline_ms); }));
  return out;
}

Outcome<WarmUp> Codec<WarmUp>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<WarmUp, wire::WarmUp>(metadata, "WarmUp", [&](auto from) -> Outcome<WarmUp> {
    if (!payload.empty()) return malformed(kNoPayload);
    return WarmUp{from.getDeadlineMs()};
  });
}

Outcome<WireMessage> Codec<WarmUpDone>::encode(const WarmUpDone& message) {
  WireMessage out;
  CONSORT_TRY(out.metadata, write_metadata<wire::WarmUpDone>([&](auto to) {
                write_nodes(to.initDecoders(static_cast<unsigned>(message.decoders.size())), message.decoders);
                write_nodes(to.initVisited(static_cast<unsigned>(message.visited.size())), message.visited);
              }));
  return out;
}

Outcome<WarmUpDone> Codec<WarmUpDone>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<WarmUpDone, wire::WarmUpDone>(metadata, "WarmUpDone", [&](auto from) -> Outcome<WarmUpDone> {
    if (!payload.empty()) return malformed(kNoPayload);
    WarmUpDone message;
    CONSORT_TRY(message.decoders, read_nodes(from.getDecoders()));
    CONSORT_TRY(message.visited, read_nodes(from.getVisited()));
    return message;
  });
}

}  // namespace consort::runtime
