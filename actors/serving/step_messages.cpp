#include "actors/serving/step_messages.hpp"

#include <algorithm>

#include "actors/metadata-inl.hpp"
#include "actors/packed_arrays.hpp"
#include "actors/serving/serving.capnp.h"

namespace consort::runtime {

using actors::LedgerOpened;
using actors::malformed;
using actors::OpenLedger;
using actors::read_metadata;
using actors::RunStep;
using actors::StepDone;
using actors::write_metadata;

namespace {

// A reason is one sentence; longer ones are cut so that a step's answer fits the frame's head.
constexpr std::size_t kMaxReasonBytes = 400;

Error bad(const char* what) { return malformed(what); }

}  // namespace

Outcome<WireMessage> Codec<OpenLedger>::encode(const OpenLedger& message) {
  WireMessage out;
  CONSORT_TRY(out.metadata, write_metadata<actors::wire::OpenLedger>([&](auto to) { to.setLedger(message.ledger); }));
  return out;
}

Outcome<OpenLedger> Codec<OpenLedger>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<OpenLedger, actors::wire::OpenLedger>(metadata, "OpenLedger",
                                                             [&](auto from) -> Outcome<OpenLedger> {
                                                               if (!payload.empty())
                                                                 return bad("a payload where there is none");
                                                               return OpenLedger{from.getLedger()};
                                                             });
}

Outcome<WireMessage> Codec<LedgerOpened>::encode(const LedgerOpened& message) {
  WireMessage out;
  CONSORT_TRY(out.metadata, write_metadata<actors::wire::LedgerOpened>([&](auto to) {
                to.setPageCount(message.page_count);
                to.setContextTokens(message.context_tokens);
                to.setVocabulary(message.vocabulary);
                to.setHidden(message.hidden);
                to.setLayers(message.layers);
                to.setFirstMoeLayer(message.first_moe_layer);
                to.setTopK(message.top_k);
              }));
  return out;
}

Outcome<LedgerOpened> Codec<LedgerOpened>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<LedgerOpened, actors::wire::LedgerOpened>(
      metadata, "LedgerOpened", [&](auto from) -> Outcome<LedgerOpened> {
        if (!payload.empty()) return bad("a payload where there is none");
        return LedgerOpened{from.getPageCount(), from.getContextTokens(), from.getVocabulary(), from.getHidden(),
                            from.getLayers(),    from.getFirstMoeLayer(), from.getTopK()};
      });
}

namespace {

// A sequence's fixed part in the payload of RunStep; its arrays follow it.
struct SequenceHead {
  std::uint64_t request, capture, seed;
  std::uint32_t first_position, page_count, token_count, first_sampled_row;
  float temperature, top_p, min_p;
  std::int32_t top_k, top_logprobs;
  std::uint32_t bias_count, repeated_count, penalty_count;
  float repetition_penalty;
  std::uint32_t mask;  // 1 + its place among the step's masks; 0: none
};
static_assert(sizeof(SequenceHead) == 80, "no padding travels");

// The same of StepDone: the reason's bytes and the sampled rows follow it.
struct DoneHead {
  std::uint64_t request;
  std::uint32_t waiting, failed, reason_bytes, sampled_count;
};
static_assert(sizeof(DoneHead) == 24, "no padding travels");
struct SampledHead {
  std::uint32_t token;
  float logprob;
  std::uint32_t logits_crc, alternative_count;
};
static_assert(sizeof(SampledHead) == 16 && sizeof(model::TokenLogprob) == 8 && sizeof(model::TokenBias) == 8,
              "no padding travels");

SequenceHead head_of(const actors::StepSequence& sequence, std::uint32_t mask) {
  const model::SamplingParams& sampling = sequence.sampling;
  const model::LogitAdjustment& adjustment = sequence.adjustment;
  const auto count = [](const auto& list) { return static_cast<std::uint32_t>(list.size()); };
  return {sequence.request,
          sequence.capture,
          sampling.seed,
          sequence.first_position,
          count(sequence.pages),
          count(sequence.tokens),
          sequence.first_sampled_row,
          sampling.temperature,
          sampling.top_p,
          sampling.min_p,
          sampling.top_k,
          sampling.top_logprobs,
          count(adjustment.biases),
          count(adjustment.repeated),
          count(adjustment.penalties),
          adjustment.repetition_penalty,
          mask};
}

}  // namespace

Outcome<WireMessage> Codec<RunStep>::encode(const RunStep& message) {
  std::vector<const model::TokenMask*> masks;
  std::vector<std::uint32_t> mask_of;
  for (const auto& sequence : message.sequences) {
    const model::TokenMask* mask = sequence.adjustment.mask.get();
    if (mask == nullptr) {
      mask_of.push_back(0);
      continue;
    }
    if (!masks.empty() && mask->token_count() != masks.front()->token_count()) {
      return failure(ErrorKind::kInternal, "the masks of a step are of several vocabularies");
    }
    const auto at = std::ranges::find(masks, mask);
    mask_of.push_back(static_cast<std::uint32_t>(at - masks.begin()) + 1);
    if (at == masks.end()) masks.push_back(mask);
  }
  actors::ArrayPacker arrays;
  for (const model::TokenMask* mask : masks) arrays.add(mask->words());
  for (std::size_t i = 0; i < message.sequences.size(); ++i) {
    const actors::StepSequence& sequence = message.sequences[i];
    const SequenceHead head = head_of(sequence, mask_of[i]);
    arrays.add(std::span(&head, 1));
    arrays.add(sequence.pages);
    arrays.add(sequence.tokens);
    arrays.add(sequence.adjustment.biases);
    arrays.add(sequence.adjustment.repeated);
    arrays.add(sequence.adjustment.penalties);
  }
  WireMessage out;
  CONSORT_TRY(out.metadata, write_metadata<actors::wire::RunStep>([&](auto to) {
                to.setLedger(message.ledger);
                to.setStep(message.step);
                to.setVisitAllNodes(message.visit_all_nodes);
                to.setSequenceCount(static_cast<std::uint32_t>(message.sequences.size()));
                to.setMaskCount(static_cast<std::uint32_t>(masks.size()));
                to.setMaskTokens(static_cast<std::uint32_t>(masks.empty() ? 0 : masks.front()->token_count()));
              }));
  out.payload = arrays.buffer();
  return out;
}

Outcome<RunStep> Codec<RunStep>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<RunStep, actors::wire::RunStep>(metadata, "RunStep", [&](auto from) -> Outcome<RunStep> {
    RunStep message{from.getLedger(), from.getStep(), from.getVisitAllNodes(), {}};
    const std::uint32_t count = from.getSequenceCount();
    const std::uint32_t mask_count = from.getMaskCount();
    const std::size_t mask_tokens = from.getMaskTokens();
    if (count == 0 || count > actors::kMaxStepSequences) return bad("no sequences, or too many");
    if (mask_count > count || mask_tokens > model::TokenMask::kMaxTokens) return bad("too many masks, or too large");
    actors::ArrayUnpacker arrays(payload.bytes());
    std::vector<model::TokenMaskPtr> masks;
    for (std::uint32_t i = 0; i < mask_count; ++i) {
      std::vector<std::uint32_t> words;
      if (!arrays.take(words, model::TokenMask::words_for(mask_tokens))) return bad("a mask is not there");
      masks.push_back(std::make_shared<const model::TokenMask>(mask_tokens, std::move(words)));
    }
    std::size_t rows = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
      SequenceHead head;
      if (!arrays.take(head)) return bad("the payload is shorter than its counts");
      actors::StepSequence& sequence = message.sequences.emplace_back();
      sequence.request = head.request;
      sequence.capture = head.capture;
      sequence.first_position = head.first_position;
      sequence.first_sampled_row = head.first_sampled_row;
      sequence.sampling = {head.temperature, head.top_k, head.top_p, head.min_p, head.seed, head.top_logprobs};
      model::LogitAdjustment& adjustment = sequence.adjustment;
      adjustment.repetition_penalty = head.repetition_penalty;
      rows += head.token_count;
      if (head.token_count == 0 || rows > actors::kMaxStepRows) return bad("a sequence without rows, or too many rows");
      if (head.first_sampled_row > head.token_count) return bad("rows to sample that are not there");
      if (!arrays.take(sequence.pages, head.page_count) || !arrays.take(sequence.tokens, head.token_count) ||
          !arrays.take(adjustment.biases, head.bias_count) || !arrays.take(adjustment.repeated, head.repeated_count) ||
          !arrays.take(adjustment.penalties, head.penalty_count)) {
        return bad("the payload is shorter than its counts");
      }
      if (head.mask > masks.size()) return bad("a mask that is not there");
      if (head.mask > 0) adjustment.mask = masks[head.mask - 1];
    }
    if (!arrays.done()) return bad("the payload is longer than its counts");
    return message;
  });
}

Outcome<WireMessage> Codec<StepDone>::encode(const StepDone& message) {
  actors::ArrayPacker arrays;
  for (const actors::SequenceDone& sequence : message.sequences) {
    const std::string_view reason = std::string_view(sequence.reason).substr(0, kMaxReasonBytes);
    const DoneHead head{sequence.request, sequence.waiting ? 1u : 0u, sequence.failed ? 1u : 0u,
                        static_cast<std::uint32_t>(reason.size()), static_cast<std::uint32_t>(sequence.sampled.size())};
    arrays.add(std::span(&head, 1));
    arrays.add(std::span(reason.data(), reason.size()));
    for (const actors::StepToken& token : sequence.sampled) {
      const SampledHead sampled{token.token, token.logprob, token.logits_crc,
                                static_cast<std::uint32_t>(token.alternatives.size())};
      arrays.add(std::span(&sampled, 1));
      arrays.add(token.alternatives);
    }
  }
  WireMessage out;
  CONSORT_TRY(out.metadata, write_metadata<actors::wire::StepDone>([&](auto to) {
                to.setStep(message.step);
                to.setSequenceCount(static_cast<std::uint32_t>(message.sequences.size()));
                auto visited = to.initVisited(static_cast<unsigned>(message.visited.size()));
                for (unsigned i = 0; i < visited.size(); ++i) visited.set(i, message.visited[i].value);
              }));
  out.payload = arrays.buffer();
  return out;
}

Outcome<StepDone> Codec<StepDone>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<StepDone, actors::wire::StepDone>(metadata, "StepDone", [&](auto from) -> Outcome<StepDone> {
    StepDone message;
    message.step = from.getStep();
    const std::uint32_t count = from.getSequenceCount();
    if (count > actors::kMaxStepSequences) return bad("too many sequences");
    actors::ArrayUnpacker arrays(payload.bytes());
    for (std::uint32_t i = 0; i < count; ++i) {
      DoneHead head;
      std::vector<char> reason;
      if (!arrays.take(head) || head.reason_bytes > kMaxReasonBytes || !arrays.take(reason, head.reason_bytes)) {
        return bad("the payload does not fit its counts");
      }
      if (head.waiting > 1 || head.failed > 1) return bad("a flag that is neither 0 nor 1");
      if (head.sampled_count > actors::kMaxSampledRows) return bad("too many sampled rows");
      actors::SequenceDone& sequence = message.sequences.emplace_back();
      sequence.request = head.request;
      sequence.waiting = head.waiting != 0;
      sequence.failed = head.failed != 0;
      sequence.reason.assign(reason.begin(), reason.end());
      for (std::uint32_t k = 0; k < head.sampled_count; ++k) {
        SampledHead token;
        if (!arrays.take(token) || token.alternative_count > model::kMaxTopLogprobs)
          return bad("too many alternatives");
        actors::StepToken& out = sequence.sampled.emplace_back();
        out.token = token.token;
        out.logprob = token.logprob;
        out.logits_crc = token.logits_crc;
        if (!arrays.take(out.alternatives, token.alternative_count)) return bad("alternatives that are not there");
      }
    }
    if (!arrays.done()) return bad("the payload is longer than its counts");
    const auto visited = from.getVisited();
    for (const std::uint32_t node : visited) message.visited.push_back(NodeId{node});
    return message;
  });
}

}  // namespace consort::runtime
