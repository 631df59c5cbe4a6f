// What a client and the Batcher say to each other: one stream of tokens per request, bounded by credits.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/node_events.hpp"
#include "model/penalties.hpp"
#include "model/sampler.hpp"
#include "model/token_constraint.hpp"
#include "runtime/actor.hpp"
#include "runtime/message.hpp"

namespace consort::actors {

// Everything of a stream is of one class, so that tokens and their end stay in order.
inline constexpr runtime::MessageClass kStreamClass = runtime::MessageClass::kDecode;
inline constexpr std::uint32_t kMaxPromptTokens = 1u << 20;
inline constexpr std::uint32_t kMaxStopIds = 64;
inline constexpr std::int32_t kMaxPriority = 1'000'000;  // -kMaxPriority to kMaxPriority; lower runs earlier
inline constexpr std::size_t kMaxCacheSaltBytes = 512;   // a key's name and a salt of the client's

struct GenerationAccepted {
  static constexpr runtime::MessageKind kKind = 0x0231;
  static constexpr runtime::MessageClass kClass = kStreamClass;
  std::uint64_t stream = 0;
  std::uint32_t waiting_before = 0;  // requests in the queue before this one
  // Not 0: refused, as every queue is full; by what was measured there will be room after this time.
  std::uint32_t come_again_ms = 0;
};
// The asker is the stream's client: tokens and the end are told to it.
struct GenerateTokens {
  static constexpr runtime::MessageKind kKind = 0x0230;
  static constexpr runtime::MessageClass kClass = kStreamClass;
  using Reply = GenerationAccepted;
  std::uint64_t stream = 0;  // chosen by the client, once
  std::vector<std::uint32_t> prompt;
  model::SamplingParams sampling;
  std::uint32_t max_new_tokens = 0;
  std::vector<std::uint32_t> stop_ids;  // end of sequence and the like; empty ignores it
  std::uint32_t deadline_ms = 60'000;   // from arrival to the end, in words if it must be
  std::uint32_t credits = 0;            // tokens that the client takes before it grants more
  model::PenaltyParams penalties;
  model::ConstraintSpec constraint;
  std::int32_t priority = 0;  // as in vLLM: lower runs earlier; equal ones by age
  std::string cache_salt;     // prompts share cached pages with those of the same salt only
};
struct TokensGenerated {
  static constexpr runtime::MessageKind kKind = 0x0232;
  static constexpr runtime::MessageClass kClass = kStreamClass;
  std::uint64_t stream = 0;
  std::uint32_t first_index = 0;  // of the stream's tokens, counted from 0
  std::vector<std::uint32_t> ids;
  std::vector<float> logprobs;
  std::vector<std::uint32_t> logits_crcs;         // CRC32C of the F32 logits that each id was sampled from
  std::uint32_t alternative_count = 0;            // sampling.top_logprobs
  std::vector<model::TokenLogprob> alternatives;  // [ids, alternative_count], most probable first
};
struct GrantTokens {
  static constexpr runtime::MessageKind kKind = 0x0233;
  static constexpr runtime::MessageClass kClass = kStreamClass;
  std::uint64_t stream = 0;
  std::uint32_t count = 0;
};
struct CancelGeneration {
  static constexpr runtime::MessageKind kKind = 0x0234;
  static constexpr runtime::MessageClass kClass = kStreamClass;
  std::uint64_t stream = 0;
};

enum class EndReason : std::uint8_t {
  kStop = 1,  // a stop id was sampled; it is the stream's last token
  kLength,    // max_new_tokens were made
  kDeadline,  // in words: text says what it waited for
  kCancelled,
  kFailed,  // in words
};
std::string_view name(EndReason reason);  // "stop", "length", ...

// The last message of a stream, exactly once for each that was accepted.
struct GenerationEnded {
  static constexpr runtime::MessageKind kKind = 0x0235;
  static constexpr runtime::MessageClass kClass = kStreamClass;
  std::uint64_t stream = 0;
  EndReason reason = EndReason::kFailed;
  std::string text;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t generated_tokens = 0;
  std::uint32_t decoder_moves = 0;  // how often it was prefilled again on another Decoder
  std::uint32_t waits = 0;          // how often a step left it out because a part was nowhere to be had
  runtime::ErrorKind kind = runtime::ErrorKind::kInternal;  // of kFailed: kInvalid will fail again, kExhausted may not
  std::uint32_t cached_tokens = 0;  // of the prompt: their KV was there when the request first ran
  std::uint32_t preemptions = 0;    // how often it made room for another and was computed again
  std::uint32_t come_again_ms = 0;  // of kExhausted, where it is known: there will be room after this time
};

// --- logits ------------------------------------------------------------------------------------------------------
// Tensors are named as the safetensors of `consort logits`: "logits", "hidden.<i>", "routes.<layer>.experts" (I64),
// "routes.<layer>.weights"; all others F32.
struct LogitsComputed {
  static constexpr runtime::MessageKind kKind = 0x0241;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kBulk;
  std::uint64_t capture = 0;
  std::uint32_t tokens = 0;
  std::uint32_t vocabulary = 0;
  std::uint32_t hidden = 0;
  std::uint32_t layers = 0;           // hidden.0 .. hidden.<layers>
  std::uint32_t first_moe_layer = 0;  // routes.<first_moe_layer> .. routes.<layers - 1>
  std::uint32_t top_k = 0;
};
struct ComputeLogits {
  static constexpr runtime::MessageKind kKind = 0x0240;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kBulk;
  using Reply = LogitsComputed;
  std::vector<std::uint32_t> ids;
  std::uint32_t deadline_ms = 60'000;
};
inline constexpr std::uint32_t kMaxSliceBytes = 1u << 20;
struct LogitsSlice {
  static constexpr runtime::MessageKind kKind = 0x0243;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kBulk;
  std::uint64_t tensor_bytes = 0;
  runtime::Buffer bytes;
};
// One slice per ask: the asker's credit is its patience.
struct ReadLogitsSlice {
  static constexpr runtime::MessageKind kKind = 0x0242;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kBulk;
  using Reply = LogitsSlice;
  std::uint64_t capture = 0;
  std::string tensor;
  std::uint64_t first_byte = 0;
  std::uint32_t max_bytes = kMaxSliceBytes;
};
struct ReleaseLogits {
  static constexpr runtime::MessageKind kKind = 0x0244;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kBulk;
  std::uint64_t capture = 0;
};

// --- warm-up -------------------------------------------------------------------------------------------------------
struct WarmUpDone {
  static constexpr runtime::MessageKind kKind = 0x0251;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kSystem;
  std::vector<runtime::NodeId> decoders;  // that made a token
  std::vector<runtime::NodeId> visited;   // whose parts it crossed
};
// Sends one real token through every Decoder and every node that holds parts; rejects in words naming who did not
// answer.
struct WarmUp {
  static constexpr runtime::MessageKind kKind = 0x0250;
  static constexpr runtime::MessageClass kClass = runtime::MessageClass::kSystem;
  using Reply = WarmUpDone;
  std::uint32_t deadline_ms = 60'000;
};

using BatcherProtocol =
    runtime::Protocol<runtime::Ask<GenerateTokens>, runtime::Tell<GrantTokens>, runtime::Tell<CancelGeneration>,
                      runtime::Ask<ComputeLogits>, runtime::Ask<ReadLogitsSlice>, runtime::Tell<ReleaseLogits>,
                      runtime::Ask<WarmUp>, runtime::Tell<cluster::ViewChanged>, runtime::Tell<cluster::PeerSuspected>,
                      runtime::Tell<cluster::PeerLost>>;
// What the client's actor takes.
using StreamProtocol = runtime::Protocol<runtime::Tell<TokensGenerated>, runtime::Tell<GenerationEnded>>;

}  // namespace consort::actors

#define CONSORT_ACTORS_CODEC(Message)                                                            \
  template <>                                                                                    \
  struct consort::runtime::Codec<consort::actors::Message> {                                     \
    static Outcome<WireMessage> encode(const actors::Message& message);                          \
    static Outcome<actors::Message> decode(std::span<const std::byte> metadata, Buffer payload); \
  }
CONSORT_ACTORS_CODEC(GenerateTokens);
CONSORT_ACTORS_CODEC(GenerationAccepted);
CONSORT_ACTORS_CODEC(TokensGenerated);
CONSORT_ACTORS_CODEC(GrantTokens);
CONSORT_ACTORS_CODEC(CancelGeneration);
CONSORT_ACTORS_CODEC(GenerationEnded);
CONSORT_ACTORS_CODEC(ComputeLogits);
CONSORT_ACTORS_CODEC(LogitsComputed);
CONSORT_ACTORS_CODEC(ReadLogitsSlice);
CONSORT_ACTORS_CODEC(LogitsSlice);
CONSORT_ACTORS_CODEC(ReleaseLogits);
CONSORT_ACTORS_CODEC(WarmUp);
CONSORT_ACTORS_CODEC(WarmUpDone);
#undef CONSORT_ACTORS_CODEC
