# What clients, the Batcher and Decoders say to each other. Kinds 0x0220-0x025F. Arrays of numbers travel in the payload.
@0x9f3c1d7e5a2b8604;
using Cxx = import "/capnp/c++.capnp";
using Wire = import "/runtime/wire.capnp";
$Cxx.namespace("consort::actors::wire");

struct Sampling {
  temperature @0 :Float32;
  topP @1 :Float32;
  minP @2 :Float32;
  topK @3 :Int32;
  seed @4 :UInt64;
  topLogprobs @5 :Int32;
}

# --- Batcher and Decoder -------------------------------------------------------------------------------------------
struct OpenLedger $Wire.kind(0x0220) {
  ledger @0 :UInt64;
}
struct LedgerOpened $Wire.kind(0x0221) {
  pageCount @0 :UInt32;
  contextTokens @1 :UInt32;
  vocabulary @2 :UInt32;
  hidden @3 :UInt32;
  layers @4 :UInt32;
  firstMoeLayer @5 :UInt32;
  topK @6 :UInt32;
}

# payload: U32 pages of the first sequence, its tokens, then the next one's.
struct RunStep $Wire.kind(0x0222) {
  ledger @0 :UInt64;
  step @1 :UInt64;
  visitAllNodes @2 :Bool;
  sequences @3 :List(Sequence);
  struct Sequence {
    request @0 :UInt64;
    firstPosition @1 :UInt32;
    pageCount @2 :UInt32;
    tokenCount @3 :UInt32;
    firstSampledRow @4 :UInt32;
    sampling @5 :Sampling;
    capture @6 :UInt64;
  }
}
struct StepDone $Wire.kind(0x0223) {
  step @0 :UInt64;
  sequences @1 :List(Sequence);
  visited @2 :List(UInt32);
  struct Sequence {
    request @0 :UInt64;
    waiting @1 :Bool;
    reason @2 :Text;
    sampled @3 :List(Sampled);
    failed @4 :Bool;
  }
  struct Sampled {
    token @0 :UInt32;
    logprob @1 :Float32;
    logitsCrc @2 :UInt32;
    alternatives @3 :List(Alternative);
  }
  struct Alternative {
    token @0 :UInt32;
    logprob @1 :Float32;
  }
}

# --- client and Batcher --------------------------------------------------------------------------------------------
# payload: U32 prompt ids.
struct GenerateTokens $Wire.kind(0x0230) {
  stream @0 :UInt64;
  promptCount @1 :UInt32;
  sampling @2 :Sampling;
  maxNewTokens @3 :UInt32;
  stopIds @4 :List(UInt32);
  deadlineMs @5 :UInt32;
  credits @6 :UInt32;
}
struct GenerationAccepted $Wire.kind(0x0231) {
  stream @0 :UInt64;
  waitingBefore @1 :UInt32;
}
# payload: U32 ids, F32 logprobs, U32 logits CRCs, tokenCount of each; U32 ids and F32 logprobs of the alternatives,
# tokenCount x alternativeCount of each.
struct TokensGenerated $Wire.kind(0x0232) {
  stream @0 :UInt64;
  firstIndex @1 :UInt32;
  tokenCount @2 :UInt32;
  alternativeCount @3 :UInt32;
}
struct GrantTokens $Wire.kind(0x0233) {
  stream @0 :UInt64;
  count @1 :UInt32;
}
struct CancelGeneration $Wire.kind(0x0234) {
  stream @0 :UInt64;
}
struct GenerationEnded $Wire.kind(0x0235) {
  stream @0 :UInt64;
  reason @1 :UInt8;
  text @2 :Text;
  promptTokens @3 :UInt32;
  generatedTokens @4 :UInt32;
  decoderMoves @5 :UInt32;
  waits @6 :UInt32;
  kind @7 :UInt8;
}

# --- logits and warm-up ----------------------------------------------------------------------------------------------
# payload: U32 ids.
struct ComputeLogits $Wire.kind(0x0240) {
  idCount @0 :UInt32;
  deadlineMs @1 :UInt32;
}
struct LogitsComputed $Wire.kind(0x0241) {
  capture @0 :UInt64;
  tokens @1 :UInt32;
  vocabulary @2 :UInt32;
  hidden @3 :UInt32;
  layers @4 :UInt32;
  firstMoeLayer @5 :UInt32;
  topK @6 :UInt32;
}
struct ReadLogitsSlice $Wire.kind(0x0242) {
  capture @0 :UInt64;
  tensor @1 :Text;
  firstByte @2 :UInt64;
  maxBytes @3 :UInt32;
}
# payload: bytes of the tensor from firstByte on.
struct LogitsSlice $Wire.kind(0x0243) {
  tensorBytes @0 :UInt64;
  sliceBytes @1 :UInt32;
}
struct ReleaseLogits $Wire.kind(0x0244) {
  capture @0 :UInt64;
}
struct WarmUp $Wire.kind(0x0250) {
  deadlineMs @0 :UInt32;
}
struct WarmUpDone $Wire.kind(0x0251) {
  decoders @0 :List(UInt32);
  visited @1 :List(UInt32);
}
