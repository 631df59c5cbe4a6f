#include "actors/serving/step_messages.hpp"

#include "actors/metadata-inl.hpp"
#include "actors/packed_arrays.hpp"
#include "actors/serving/sampling_wire-inl.hpp"
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

Outcome<WireMessage> Codec<RunStep>::encode(const RunStep& message) {
  WireMessage out;
  actors::ArrayPacker arrays;
  for (const auto& sequence : message.sequences) {
    arrays.add(sequence.pages);
    arrays.add(sequence.tokens);
  }
  CONSORT_TRY(out.metadata, write_metadata<actors::wire::RunStep>([&](auto to) {
                to.setLedger(message.ledger);
                to.setStep(message.step);
                to.setVisitAllNodes(message.visit_all_nodes);
                auto list = to.initSequences(static_cast<unsigned>(message.sequences.size()));
                for (unsigned i = 0; i < list.size(); ++i) {
                  const actors::StepSequence& sequence = message.sequences[i];
                  list[i].setRequest(sequence.request);
                  list[i].setFirstPosition(sequence.first_position);
                  list[i].setPageCount(static_cast<std::uint32_t>(sequence.pages.size()));
                  list[i].setTokenCount(static_cast<std::uint32_t>(sequence.tokens.size()));
                  list[i].setFirstSampledRow(sequence.first_sampled_row);
                  actors::write_sampling(list[i].initSampling(), sequence.sampling);
                  list[i].setCapture(sequence.capture);
                }
              }));
  out.payload = arrays.buffer();
  return out;
}

Outcome<RunStep> Codec<RunStep>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<RunStep, actors::wire::RunStep>(metadata, "RunStep", [&](auto from) -> Outcome<RunStep> {
    RunStep message{from.getLedger(), from.getStep(), from.getVisitAllNodes(), {}};
    const auto list = from.getSequences();
    if (list.size() == 0 || list.size() > actors::kMaxStepSequences) return bad("no sequences, or too many");
    actors::ArrayUnpacker arrays(payload.bytes());
    std::size_t rows = 0;
    for (const auto in : list) {
      actors::StepSequence& sequence = message.sequences.emplace_back();
      sequence.request = in.getRequest();
      sequence.first_position = in.getFirstPosition();
      sequence.first_sampled_row = in.getFirstSampledRow();
      sequence.sampling = actors::read_sampling(in.getSampling());
      sequence.capture = in.getCapture();
      rows += in.getTokenCount();
      if (in.getTokenCount() == 0 || rows > actors::kMaxStepRows)
        return bad("a sequence without rows, or too many rows");
      if (sequence.first_sampled_row > in.getTokenCount()) return bad("rows to sample that are not there");
      if (!arrays.take(sequence.pages, in.getPageCount()) || !arrays.take(sequence.tokens, in.getTokenCount())) {
        return bad("the payload is shorter than its counts");
      }
    }
    if (!arrays.done()) return bad("the payload is longer than its counts");
    return message;
  });
}

Outcome<WireMessage> Codec<StepDone>::encode(const StepDone& message) {
  WireMessage out;
  CONSORT_TRY(out.metadata, write_metadata<actors::wire::StepDone>([&](auto to) {
                to.setStep(message.step);
                auto list = to.initSequences(static_cast<unsigned>(message.sequences.size()));
                for (unsigned i = 0; i < list.size(); ++i) {
                  const actors::SequenceDone& sequence = message.sequences[i];
                  list[i].setRequest(sequence.request);
                  list[i].setWaiting(sequence.waiting);
                  list[i].setFailed(sequence.failed);
                  if (!sequence.reason.empty()) list[i].setReason(sequence.reason.substr(0, kMaxReasonBytes));
                  auto sampled = list[i].initSampled(static_cast<unsigned>(sequence.sampled.size()));
                  for (unsigned k = 0; k < sampled.size(); ++k) {
                    sampled[k].setToken(sequence.sampled[k].token);
                    sampled[k].setLogprob(sequence.sampled[k].logprob);
                    sampled[k].setLogitsCrc(sequence.sampled[k].logits_crc);
                    const auto& from = sequence.sampled[k].alternatives;
                    auto alternatives = sampled[k].initAlternatives(static_cast<unsigned>(from.size()));
                    for (unsigned a = 0; a < alternatives.size(); ++a) {
                      alternatives[a].setToken(static_cast<std::uint32_t>(from[a].token));
                      alternatives[a].setLogprob(from[a].logprob);
                    }
                  }
                }
                auto visited = to.initVisited(static_cast<unsigned>(message.visited.size()));
                for (unsigned i = 0; i < visited.size(); ++i) visited.set(i, message.visited[i].value);
              }));
  return out;
}

Outcome<StepDone> Codec<StepDone>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<StepDone, actors::wire::StepDone>(metadata, "StepDone", [&](auto from) -> Outcome<StepDone> {
    if (!payload.empty()) return bad("a payload where there is none");
    StepDone message;
    message.step = from.getStep();
    const auto list = from.getSequences();
    if (list.size() > actors::kMaxStepSequences) return bad("too many sequences");
    for (const auto in : list) {
      actors::SequenceDone& sequence = message.sequences.emplace_back();
      sequence.request = in.getRequest();
      sequence.waiting = in.getWaiting();
      sequence.failed = in.getFailed();
      sequence.reason = actors::text_of(in.getReason());
      const auto sampled = in.getSampled();
      if (sampled.size() > actors::kMaxSampledRows) return bad("too many sampled rows");
      for (const auto token : sampled) {
        actors::StepToken& out = sequence.sampled.emplace_back();
        out.token = token.getToken();
        out.logprob = token.getLogprob();
        out.logits_crc = token.getLogitsCrc();
        const auto alternatives = token.getAlternatives();
        if (alternatives.size() > model::kMaxTopLogprobs) return bad("too many alternatives");
        for (const auto other : alternatives) {
          out.alternatives.push_back({static_cast<std::int32_t>(other.getToken()), other.getLogprob()});
        }
      }
    }
    const auto visited = from.getVisited();
    for (const std::uint32_t node : visited) message.visited.push_back(NodeId{node});
    return message;
  });
}

}  // namespace consort::runtime
