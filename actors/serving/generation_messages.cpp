#include "actors/serving/generation_messages.hpp"

#include "actors/metadata-inl.hpp"
#include "actors/packed_arrays.hpp"
#include "actors/serving/sampling_wire-inl.hpp"
#include "actors/serving/serving.capnp.h"

namespace consort::actors {

std::string_view name(EndReason reason) {
  switch (reason) {
    case EndReason::kStop:
      return "stop";
    case EndReason::kLength:
      return "length";
    case EndReason::kDeadline:
      return "deadline";
    case EndReason::kCancelled:
      return "cancelled";
    case EndReason::kFailed:
      return "failed";
  }
  return "unknown";
}

}  // namespace consort::actors

namespace consort::runtime {

using namespace actors;

namespace {

// The end of a stream explains itself in a sentence or two.
constexpr std::size_t kMaxTextBytes = 2000;
// Of one TokensGenerated; a stream without credit may have many tokens waiting.
constexpr std::uint32_t kMaxTokensAtOnce = 1u << 16;

constexpr const char* kNoPayload = "a payload where there is none";

}  // namespace

Outcome<WireMessage> Codec<GenerateTokens>::encode(const GenerateTokens& message) {
  WireMessage out;
  if (message.stop_ids.size() > kMaxStopIds) return failure(ErrorKind::kInvalid, "more than 64 stop ids");
  if (message.constraint.text.size() > model::kMaxConstraintBytes || message.cache_salt.size() > kMaxCacheSaltBytes) {
    return failure(ErrorKind::kInvalid, "the constraint or the cache's salt is too long");
  }
  CONSORT_TRY(out.metadata, write_metadata<wire::GenerateTokens>([&](auto to) {
                to.setStream(message.stream);
                to.setPromptCount(static_cast<std::uint32_t>(message.prompt.size()));
                write_sampling(to.initSampling(), message.sampling);
                to.setMaxNewTokens(message.max_new_tokens);
                auto stops = to.initStopIds(static_cast<unsigned>(message.stop_ids.size()));
                for (unsigned i = 0; i < stops.size(); ++i) stops.set(i, message.stop_ids[i]);
                to.setDeadlineMs(message.deadline_ms);
                to.setCredits(message.credits);
                to.setFrequencyPenalty(message.penalties.frequency_penalty);
                to.setPresencePenalty(message.penalties.presence_penalty);
                to.setRepetitionPenalty(message.penalties.repetition_penalty);
                to.setBiasCount(static_cast<std::uint32_t>(message.penalties.logit_bias.size()));
                to.setPriority(message.priority);
                to.setConstraintKind(static_cast<std::uint8_t>(message.constraint.kind));
                to.setConstraintBytes(static_cast<std::uint32_t>(message.constraint.text.size()));
                to.setBeginsInThought(message.constraint.begins_in_thought);
                to.setSaltBytes(static_cast<std::uint32_t>(message.cache_salt.size()));
              }));
  ArrayPacker arrays;
  arrays.add(message.prompt);
  arrays.add(message.penalties.logit_bias);
  arrays.add(std::span(message.constraint.text.data(), message.constraint.text.size()));
  arrays.add(std::span(message.cache_salt.data(), message.cache_salt.size()));
  out.payload = arrays.buffer();
  return out;
}

Outcome<GenerateTokens> Codec<GenerateTokens>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<GenerateTokens, wire::GenerateTokens>(
      metadata, "GenerateTokens", [&](auto from) -> Outcome<GenerateTokens> {
        GenerateTokens message;
        message.stream = from.getStream();
        message.sampling = read_sampling(from.getSampling());
        message.max_new_tokens = from.getMaxNewTokens();
        message.deadline_ms = from.getDeadlineMs();
        message.credits = from.getCredits();
        const auto stops = from.getStopIds();
        if (stops.size() > kMaxStopIds) return malformed("too many stop ids");
        for (const std::uint32_t id : stops) message.stop_ids.push_back(id);
        message.penalties.frequency_penalty = from.getFrequencyPenalty();
        message.penalties.presence_penalty = from.getPresencePenalty();
        message.penalties.repetition_penalty = from.getRepetitionPenalty();
        message.priority = from.getPriority();
        if (from.getConstraintKind() >= model::kConstraintKinds) return malformed("a constraint of no known kind");
        message.constraint.kind = static_cast<model::ConstraintKind>(from.getConstraintKind());
        message.constraint.begins_in_thought = from.getBeginsInThought();
        if (from.getPromptCount() > kMaxPromptTokens || from.getBiasCount() > model::kMaxLogitBiases ||
            from.getConstraintBytes() > model::kMaxConstraintBytes || from.getSaltBytes() > kMaxCacheSaltBytes) {
          return malformed("counts out of range");
        }
        ArrayUnpacker arrays(payload.bytes());
        std::vector<char> text, salt;
        if (!arrays.take(message.prompt, from.getPromptCount()) ||
            !arrays.take(message.penalties.logit_bias, from.getBiasCount()) ||
            !arrays.take(text, from.getConstraintBytes()) || !arrays.take(salt, from.getSaltBytes()) ||
            !arrays.done()) {
          return malformed("the payload does not fit its counts");
        }
        message.constraint.text.assign(text.begin(), text.end());
        message.cache_salt.assign(salt.begin(), salt.end());
        return message;
      });
}

Outcome<WireMessage> Codec<GenerationAccepted>::encode(const GenerationAccepted& message) {
  WireMessage out;
  CONSORT_TRY(out.metadata, write_metadata<wire::GenerationAccepted>([&](auto to) {
                to.setStream(message.stream);
                to.setWaitingBefore(message.waiting_before);
                to.setComeAgainMs(message.come_again_ms);
              }));
  return out;
}

Outcome<GenerationAccepted> Codec<GenerationAccepted>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<GenerationAccepted, wire::GenerationAccepted>(
      metadata, "GenerationAccepted", [&](auto from) -> Outcome<GenerationAccepted> {
        if (!payload.empty()) return malformed(kNoPayload);
        return GenerationAccepted{from.getStream(), from.getWaitingBefore(), from.getComeAgainMs()};
      });
}

Outcome<WireMessage> Codec<TokensGenerated>::encode(const TokensGenerated& message) {
  CONSORT_CHECK(message.ids.size() == message.logprobs.size() && message.ids.size() == message.logits_crcs.size() &&
                message.alternatives.size() == message.ids.size() * message.alternative_count);
  WireMessage out;
  CONSORT_TRY(out.metadata, write_metadata<wire::TokensGenerated>([&](auto to) {
                to.setStream(message.stream);
                to.setFirstIndex(message.first_index);
                to.setTokenCount(static_cast<std::uint32_t>(message.ids.size()));
                to.setAlternativeCount(message.alternative_count);
              }));
  ArrayPacker arrays;
  arrays.add(message.ids);
  arrays.add(message.logprobs);
  arrays.add(message.logits_crcs);
  for (const model::TokenLogprob& other : message.alternatives) arrays.add(std::span(&other.token, 1));
  for (const model::TokenLogprob& other : message.alternatives) arrays.add(std::span(&other.logprob, 1));
  out.payload = arrays.buffer();
  return out;
}

Outcome<TokensGenerated> Codec<TokensGenerated>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<TokensGenerated, wire::TokensGenerated>(
      metadata, "TokensGenerated", [&](auto from) -> Outcome<TokensGenerated> {
        TokensGenerated message;
        message.stream = from.getStream();
        message.first_index = from.getFirstIndex();
        const std::uint32_t count = from.getTokenCount();
        ArrayUnpacker arrays(payload.bytes());
        message.alternative_count = from.getAlternativeCount();
        if (count == 0 || count > kMaxTokensAtOnce || message.alternative_count > model::kMaxTopLogprobs) {
          return malformed("counts out of range");
        }
        const std::size_t others = std::size_t{count} * message.alternative_count;
        std::vector<std::int32_t> other_ids;
        std::vector<float> other_logprobs;
        if (!arrays.take(message.ids, count) || !arrays.take(message.logprobs, count) ||
            !arrays.take(message.logits_crcs, count) || !arrays.take(other_ids, others) ||
            !arrays.take(other_logprobs, others) || !arrays.done()) {
          return malformed("the payload does not fit its counts");
        }
        for (std::size_t i = 0; i < others; ++i) message.alternatives.push_back({other_ids[i], other_logprobs[i]});
        return message;
      });
}

Outcome<WireMessage> Codec<GrantTokens>::encode(const GrantTokens& message) {
  WireMessage out;
  CONSORT_TRY(out.metadata, write_metadata<wire::GrantTokens>([&](auto to) {
                to.setStream(message.stream);
                to.setCount(message.count);
              }));
  return out;
}

Outcome<GrantTokens> Codec<GrantTokens>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<GrantTokens, wire::GrantTokens>(metadata, "GrantTokens", [&](auto from) -> Outcome<GrantTokens> {
    if (!payload.empty()) return malformed(kNoPayload);
    return GrantTokens{from.getStream(), from.getCount()};
  });
}

Outcome<WireMessage> Codec<CancelGeneration>::encode(const CancelGeneration& message) {
  WireMessage out;
  CONSORT_TRY(out.metadata, write_metadata<wire::CancelGeneration>([&](auto to) { to.setStream(message.stream); }));
  return out;
}

Outcome<CancelGeneration> Codec<CancelGeneration>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<CancelGeneration, wire::CancelGeneration>(metadata, "CancelGeneration",
                                                                 [&](auto from) -> Outcome<CancelGeneration> {
                                                                   if (!payload.empty()) return malformed(kNoPayload);
                                                                   return CancelGeneration{from.getStream()};
                                                                 });
}

Outcome<WireMessage> Codec<GenerationEnded>::encode(const GenerationEnded& message) {
  WireMessage out;
  CONSORT_TRY(out.metadata, write_metadata<wire::GenerationEnded>([&](auto to) {
                to.setStream(message.stream);
                to.setReason(static_cast<std::uint8_t>(message.reason));
                to.setText(message.text.substr(0, kMaxTextBytes));
                to.setPromptTokens(message.prompt_tokens);
                to.setGeneratedTokens(message.generated_tokens);
                to.setDecoderMoves(message.decoder_moves);
                to.setWaits(message.waits);
                to.setKind(static_cast<std::uint8_t>(message.kind));
                to.setCachedTokens(message.cached_tokens);
                to.setPreemptions(message.preemptions);
                to.setComeAgainMs(message.come_again_ms);
              }));
  return out;
}

Outcome<GenerationEnded> Codec<GenerationEnded>::decode(std::span<const std::byte> metadata, Buffer payload) {
  return read_metadata<GenerationEnded, wire::GenerationEnded>(
      metadata, "GenerationEnded", [&](auto from) -> Outcome<GenerationEnded> {
        if (!payload.empty()) return malformed(kNoPayload);
        const std::uint8_t reason = from.getReason();
        if (reason < static_cast<std::uint8_t>(EndReason::kStop) ||
            reason > static_cast<std::uint8_t>(EndReason::kFailed)) {
          return malformed("unknown reason " + std::to_string(reason));
        }
        GenerationEnded message;
        message.stream = from.getStream();
        message.reason = static_cast<EndReason>(reason);
        message.text = text_of(from.getText());
        message.prompt_tokens = from.getPromptTokens();
        message.generated_tokens = from.getGeneratedTokens();
        message.decoder_moves = from.getDecoderMoves();
        message.waits = from.getWaits();
        const std::uint8_t kind = from.getKind();
        if (kind < 1 || kind > kErrorKindCount) return malformed("unknown kind " + std::to_string(kind));
        message.kind = static_cast<ErrorKind>(kind);
        message.cached_tokens = from.getCachedTokens();
        message.preemptions = from.getPreemptions();
        message.come_again_ms = from.getComeAgainMs();
        return message;
      });
}

}  // namespace consort::runtime
