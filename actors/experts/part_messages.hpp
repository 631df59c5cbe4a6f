// ComputeParts and PartOutputs: rows to one ExpertGroup and what its parts made of them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstdint>
#include <span>
#include <vector>

#include "cluster/view.hpp"
#include "model/part.hpp"
#include "runtime/buffer.hpp"
#include "runtime/message.hpp"
#include "runtime/tensor_view.hpp"

namespace consort::actors {

// Names a dispatch together with its parts (design, section 5). A retry keeps it.
struct DispatchKey {
  runtime::NodeId decoder_node;
  runtime::Incarnation decoder_incarnation;
  std::uint64_t step = 0;
  runtime::LayerIndex layer;
  std::uint32_t micro_batch = 0;
  auto operator<=>(const DispatchKey&) const = default;
};
// For the two numbers of a trace event: step, layer and micro-batch in one.
std::int64_t trace_number(const DispatchKey& key);

struct PartOutputs {
  static constexpr runtime::MessageKind kKind = 0x0201;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kDecode;
  std::uint32_t hidden = 0;
  std::uint32_t output_count = 0;
  runtime::Buffer outputs;       // F32 [output_count, hidden], in the order of the request's row indices, not weighted
  std::uint64_t compute_ns = 0;  // that computing them took; nothing depends on it but what people are shown
};

struct ComputeParts {
  static constexpr runtime::MessageKind kKind = 0x0200;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kDecode;
  using Reply = PartOutputs;

  DispatchKey key;
  std::uint64_t plan_digest = 0;  // of the numeric plan: outputs of another cut must never be combined
  std::uint32_t hidden = 0;
  std::uint32_t row_count = 0;
  std::uint32_t part_count = 0;
  std::uint32_t output_count = 0;
  runtime::Buffer payload;  // as experts.capnp says; filled by pack_compute_parts, checked by the codec

  runtime::ConstTensorView rows() const;  // F32 [row_count, hidden]
  struct PartRows {
    model::PartKey part;
    std::span<const std::uint32_t> rows;  // ascending, below row_count
  };
  std::vector<PartRows> parts() const;
};

// A part and the rows that it shall compute.
struct PartRequest {
  model::PartKey part;
  std::vector<std::uint32_t> rows;
};
inline constexpr std::size_t kPartWords = 5;  // U32 per part in the payload
std::size_t compute_parts_payload_bytes(std::size_t row_count, std::size_t hidden, std::span<const PartRequest> parts);
// Fills payload (of just that size) and the counts of `message`. `rows` are the rows of `source` [*, hidden] that
// travel, ascending; the requests' row numbers are those of `source` and each must be among them. All parts are of one
// layer.
void pack_compute_parts(ComputeParts& message, runtime::Buffer payload, runtime::ConstTensorView source,
                        std::span<const std::uint32_t> rows, std::span<const PartRequest> parts);

// The cluster's words for the model's: actors translate.
model::PartKey part_key(const cluster::PartId& id);
cluster::PartId part_id(const model::PartKey& key);
model::NumericPlan model_plan(const cluster::NumericPlan& plan);

}  // namespace consort::actors

namespace consort::runtime {
template <>
struct Codec<actors::ComputeParts> {
  static Outcome<WireMessage> encode(const actors::ComputeParts& message);
  static Outcome<actors::ComputeParts> decode(std::span<const std::byte> metadata, Buffer payload);
};
template <>
struct Codec<actors::PartOutputs> {
  static Outcome<WireMessage> encode(const actors::PartOutputs& message);
  static Outcome<actors::PartOutputs> decode(std::span<const std::byte> metadata, Buffer payload);
};
}  // namespace consort::runtime
