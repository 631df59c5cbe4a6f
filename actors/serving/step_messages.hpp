// What the Batcher and a Decoder say to each other: a ledger of pages, and steps that name them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "actors/serving/generation_messages.hpp"
#include "model/sampler.hpp"
#include "runtime/actor.hpp"
#include "runtime/message.hpp"

namespace consort::actors {

// Bounds of one step; the Batcher stays far below, a Decoder refuses more.
inline constexpr std::size_t kMaxStepSequences = 256;
inline constexpr std::size_t kMaxStepRows = 4096;
inline constexpr std::size_t kMaxSampledRows = 256;  // of one sequence

struct LedgerOpened {
  static constexpr runtime::MessageKind kKind = 0x0221;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kSystem;
  std::uint32_t page_count = 0;      // ids 0 .. page_count - 1
  std::uint32_t context_tokens = 0;  // the model's max_position_embeddings
  std::uint32_t vocabulary = 0;
  std::uint32_t hidden = 0;
  std::uint32_t layers = 0;
  std::uint32_t first_moe_layer = 0;
  std::uint32_t top_k = 0;
};
// From now on only steps under this ledger touch the Decoder's pages; what runs under an older one is given up.
struct OpenLedger {
  static constexpr runtime::MessageKind kKind = 0x0220;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kSystem;
  using Reply = LedgerOpened;
  std::uint64_t ledger = 0;
};

struct StepToken {
  std::uint32_t token = 0;
  float logprob = 0;
  std::uint32_t logits_crc = 0;  // CRC32C of the row's F32 logits
  std::vector<model::TokenLogprob> alternatives;
  bool operator==(const StepToken&) const = default;
};
struct SequenceDone {
  std::uint64_t request = 0;
  bool waiting = false;  // rows lacked a part: nothing of this sequence counts, its KV is rewritten by the next try
  bool failed = false;   // this request cannot go on, whoever tries
  std::string reason;    // of waiting or failed
  std::vector<StepToken> sampled;
};
struct StepDone {
  static constexpr runtime::MessageKind kKind = 0x0225;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kDecode;
  std::uint64_t step = 0;
  std::vector<SequenceDone> sequences;  // in the step's order
  std::vector<runtime::NodeId> visited;
};

// Rows [first_position, first_position + tokens.size()) of one request; positions before them are in its pages.
struct StepSequence {
  std::uint64_t request = 0;
  std::uint32_t first_position = 0;
  std::vector<std::uint32_t> pages;  // position p lies in pages[p / 64]
  std::vector<std::uint32_t> tokens;
  std::uint32_t first_sampled_row = 0;  // rows from here on are sampled; tokens.size(): none
  model::SamplingParams sampling;
  model::LogitAdjustment adjustment;  // of the sampled row; several share a mask by pointer, and it travels once
  std::uint64_t capture = 0;          // not 0: keep logits, hidden rows and routes of every row under this name
};
struct RunStep {
  static constexpr runtime::MessageKind kKind = 0x0224;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kDecode;
  using Reply = StepDone;
  std::uint64_t ledger = 0;
  std::uint64_t step = 0;
  bool visit_all_nodes = false;
  std::vector<StepSequence> sequences;
};

// [later] A Decoder with layers [first, last) hands its rows to the next stage.
struct ForwardRows {
  std::uint64_t step = 0;
  runtime::LayerIndex first_layer;
  std::uint32_t hidden = 0;
  std::vector<StepSequence> sequences;
  runtime::Buffer rows;  // F32 [rows, hidden]
};

using DecoderProtocol = runtime::Protocol<runtime::Ask<OpenLedger>, runtime::Ask<RunStep>,
                                          runtime::Ask<ReadLogitsSlice>, runtime::Tell<ReleaseLogits>>;

}  // namespace consort::actors

namespace consort::runtime {
template <>
struct Codec<actors::OpenLedger> {
  static Outcome<WireMessage> encode(const actors::OpenLedger& message);
  static Outcome<actors::OpenLedger> decode(std::span<const std::byte> metadata, Buffer payload);
};
template <>
struct Codec<actors::LedgerOpened> {
  static Outcome<WireMessage> encode(const actors::LedgerOpened& message);
  static Outcome<actors::LedgerOpened> decode(std::span<const std::byte> metadata, Buffer payload);
};
template <>
struct Codec<actors::RunStep> {
  static Outcome<WireMessage> encode(const actors::RunStep& message);
  static Outcome<actors::RunStep> decode(std::span<const std::byte> metadata, Buffer payload);
};
template <>
struct Codec<actors::StepDone> {
  static Outcome<WireMessage> encode(const actors::StepDone& message);
  static Outcome<actors::StepDone> decode(std::span<const std::byte> metadata, Buffer payload);
};
}  // namespace consort::runtime
