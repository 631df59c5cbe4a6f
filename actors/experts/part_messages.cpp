#include "actors/experts/part_messages.hpp"

#include <algorithm>
#include <cstring>

#include "actors/experts/experts.capnp.h"
#include "actors/metadata-inl.hpp"

namespace consort::actors {

using runtime::Buffer;
using runtime::Outcome;
using runtime::WireMessage;

namespace {

// Far beyond any model or batch of today; they keep the products below within 64 bits.
constexpr std::uint64_t kMaxHidden = 1u << 17;
constexpr std::uint64_t kMaxRows = 1u << 20;
constexpr std::uint64_t kMaxParts = 1u << 16;
constexpr std::uint64_t kMaxOutputs = 1u << 24;

std::uint64_t payload_bytes(std::uint64_t rows, std::uint64_t hidden, std::uint64_t parts, std::uint64_t outputs) {
  return rows * hidden * sizeof(float) + (parts * kPartWords + outputs) * sizeof(std::uint32_t);
}

const std::uint32_t* part_table(const ComputeParts& message) {
  const std::size_t row_bytes = std::size_t{message.row_count} * message.hidden * sizeof(float);
  return reinterpret_cast<const std::uint32_t*>(message.payload.bytes().data() + row_bytes);
}

// Rows and tables are read in place, so they must be aligned; a wire that delivers elsewhere costs a copy.
Buffer aligned(Buffer payload) {
  const auto address = reinterpret_cast<std::uintptr_t>(payload.bytes().data());
  return address % alignof(float) == 0 ? std::move(payload) : Buffer::copy_of(payload.bytes());
}

Outcome<runtime::Done> check_tables(const ComputeParts& message) {
  const std::uint32_t* table = part_table(message);
  const std::uint32_t* indices = table + std::size_t{message.part_count} * kPartWords;
  std::uint64_t first = 0;
  for (std::uint32_t p = 0; p < message.part_count; ++p, table += kPartWords) {
    const std::uint64_t count = table[4];
    if (table[0] != static_cast<std::uint32_t>(model::PartKind::kRoutedExpert))
      return malformed("unknown kind of part");
    if (table[3] == 0 || count == 0) return malformed("a part without columns or rows");
    if (first + count > message.output_count) return malformed("parts want more rows than announced");
    for (std::uint64_t i = first; i < first + count; ++i) {
      if (indices[i] >= message.row_count) return malformed("a row index is out of range");
      if (i > first && indices[i] <= indices[i - 1]) return malformed("row indices of a part do not ascend");
    }
    first += count;
  }
  if (first != message.output_count) return malformed("parts want fewer rows than announced");
  return runtime::done();
}

}  // namespace

std::int64_t trace_number(const DispatchKey& key) {
  return static_cast<std::int64_t>((key.step << 20) | (std::uint64_t{key.layer.value} << 4) | key.micro_batch);
}

runtime::ConstTensorView ComputeParts::rows() const {
  return {payload.bytes().data(), runtime::Dtype::kF32, {row_count, hidden}};
}

std::vector<ComputeParts::PartRows> ComputeParts::parts() const {
  std::vector<PartRows> out;
  out.reserve(part_count);
  const std::uint32_t* table = part_table(*this);
  const std::uint32_t* indices = table + std::size_t{part_count} * kPartWords;
  for (std::uint32_t p = 0; p < part_count; ++p, table += kPartWords) {
    const model::PartKey part{key.layer, static_cast<model::PartKind>(table[0]), table[1], table[2], table[3]};
    out.push_back({part, {indices, table[4]}});
    indices += table[4];
  }
  return out;
}

std::size_t compute_parts_payload_bytes(std::size_t row_count, std::size_t hidden, std::span<const PartRequest> parts) {
  std::size_t outputs = 0;
  for (const PartRequest& part : parts) outputs += part.rows.size();
  return payload_bytes(row_count, hidden, parts.size(), outputs);
}

void pack_compute_parts(ComputeParts& message, Buffer payload, runtime::ConstTensorView source,
                        std::span<const std::uint32_t> rows, std::span<const PartRequest> parts) {
  const auto row_bytes = static_cast<std::size_t>(source.cols()) * sizeof(float);
  CONSORT_CHECK(
      payload.size() == compute_parts_payload_bytes(rows.size(), static_cast<std::size_t>(source.cols()), parts),
      payload.size(), rows.size(), parts.size());
  message.hidden = static_cast<std::uint32_t>(source.cols());
  message.row_count = static_cast<std::uint32_t>(rows.size());
  message.part_count = static_cast<std::uint32_t>(parts.size());
  std::byte* out = payload.mutable_bytes().data();
  for (const std::uint32_t row : rows) {
    std::memcpy(out, source.f32(row), row_bytes);
    out += row_bytes;
  }
  auto* table = reinterpret_cast<std::uint32_t*>(out);
  auto* indices = table + parts.size() * kPartWords;
  std::uint32_t outputs = 0;
  for (const PartRequest& request : parts) {
    CONSORT_CHECK(request.part.layer == message.key.layer, request.part.layer, message.key.layer);
    *table++ = static_cast<std::uint32_t>(request.part.kind);
    *table++ = request.part.index;
    *table++ = request.part.first_column;
    *table++ = request.part.column_count;
    *table++ = static_cast<std::uint32_t>(request.rows.size());
    for (const std::uint32_t row : request.rows) {
      const auto at = std::lower_bound(rows.begin(), rows.end(), row);
      CONSORT_CHECK(at != rows.end() && *at == row, row);
      *indices++ = static_cast<std::uint32_t>(at - rows.begin());
    }
    outputs += static_cast<std::uint32_t>(request.rows.size());
  }
  message.output_count = outputs;
  message.payload = std::move(payload);
}

model::PartKey part_key(const cluster::PartId& id) {
  return {runtime::LayerIndex{id.layer}, static_cast<model::PartKind>(id.kind), id.index, id.first_column,
          id.column_count};
}

cluster::PartId part_id(const model::PartKey& key) {
  return {key.layer.value, static_cast<std::uint8_t>(key.kind), key.index, key.first_column, key.column_count};
}

model::NumericPlan model_plan(const cluster::NumericPlan& plan) {
  model::NumericPlan out;
  for (const auto& columns : plan.cut) out.columns.push_back({columns.first, columns.count});
  out.combine = plan.combine;
  out.wire = plan.wire;
  out.numeric_class = plan.numeric_class;
  return out;
}

}  // namespace consort::actors

namespace consort::runtime {

using actors::ComputeParts;
using actors::PartOutputs;

Outcome<WireMessage> Codec<ComputeParts>::encode(const ComputeParts& message) {
  WireMessage out;
  CONSORT_TRY(out.metadata, actors::write_metadata<actors::wire::ComputeParts>([&](auto to) {
                to.setDecoderNode(message.key.decoder_node.value);
                to.setDecoderIncarnation(message.key.decoder_incarnation.value);
                to.setStep(message.key.step);
                to.setLayer(message.key.layer.value);
                to.setMicroBatch(message.key.micro_batch);
                to.setPlanDigest(message.plan_digest);
                to.setHidden(message.hidden);
                to.setRowCount(message.row_count);
                to.setPartCount(message.part_count);
                to.setOutputCount(message.output_count);
              }));
  out.payload = message.payload;
  return out;
}

Outcome<ComputeParts> Codec<ComputeParts>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return actors::read_metadata<ComputeParts, actors::wire::ComputeParts>(
      metadata, "ComputeParts", [&](auto from) -> Outcome<ComputeParts> {
        ComputeParts message;
        message.key = {NodeId{from.getDecoderNode()}, Incarnation{from.getDecoderIncarnation()}, from.getStep(),
                       LayerIndex{from.getLayer()}, from.getMicroBatch()};
        message.plan_digest = from.getPlanDigest();
        message.hidden = from.getHidden();
        message.row_count = from.getRowCount();
        message.part_count = from.getPartCount();
        message.output_count = from.getOutputCount();
        if (message.hidden == 0 || message.hidden > actors::kMaxHidden || message.row_count == 0 ||
            message.row_count > actors::kMaxRows || message.part_count == 0 || message.part_count > actors::kMaxParts ||
            message.output_count == 0 || message.output_count > actors::kMaxOutputs) {
          return actors::malformed("counts out of range");
        }
        const std::uint64_t expected =
            actors::payload_bytes(message.row_count, message.hidden, message.part_count, message.output_count);
        if (payload.size() != expected) {
          return actors::malformed("payload of " + std::to_string(payload.size()) + " bytes, its counts say " +
                                   std::to_string(expected));
        }
        if (std::uint64_t{message.output_count} * message.hidden * sizeof(float) > kMaxPayloadBytes) {
          return actors::malformed("the outputs would not fit into one reply");
        }
        message.payload = actors::aligned(std::move(payload));
        CONSORT_RETURN_IF_ERROR(actors::check_tables(message));
        return message;
      });
}

Outcome<WireMessage> Codec<PartOutputs>::encode(const PartOutputs& message) {
  WireMessage out;
  CONSORT_TRY(out.metadata, actors::write_metadata<actors::wire::PartOutputs>([&](auto to) {
                to.setHidden(message.hidden);
                to.setOutputCount(message.output_count);
                to.setComputeNs(message.compute_ns);
              }));
  out.payload = message.outputs;
  return out;
}

Outcome<PartOutputs> Codec<PartOutputs>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return actors::read_metadata<PartOutputs, actors::wire::PartOutputs>(
      metadata, "PartOutputs", [&](auto from) -> Outcome<PartOutputs> {
        PartOutputs message;
        message.hidden = from.getHidden();
        message.output_count = from.getOutputCount();
        message.compute_ns = from.getComputeNs();
        const std::uint64_t expected = std::uint64_t{message.hidden} * message.output_count * sizeof(float);
        if (payload.size() != expected) {
          return actors::malformed("payload of " + std::to_string(payload.size()) + " bytes, its counts say " +
                                   std::to_string(expected));
        }
        message.outputs = actors::aligned(std::move(payload));
        return message;
      });
}

}  // namespace consort::runtime
