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

# payload: maskCount masks of maskTokens bits, in U32 words; then, for each sequence, a head of fixed size
# (step_messages.cpp), U32 pages, U32 tokens, biases (U32 token, F32), U32 repeated tokens, penalties (U32 token, F32).
struct RunStep $Wire.kind(0x0224) {
  ledger @0 :UInt64;
  step @1 :UInt64;
  visitAllNodes @2 :Bool;
  sequenceCount @3 :UInt32;
  maskCount @4 :UInt32;
  maskTokens @5 :UInt32;
}
# payload: for each sequence a head of fixed size, its reason, and the sampled rows, each with its alternatives.
struct StepDone $Wire.kind(0x0225) {
  step @0 :UInt64;
  sequenceCount @1 :UInt32;
  visited @2 :List(UInt32);
}

# --- client and Batcher --------------------------------------------------------------------------------------------
# payload: U32 prompt ids; biases (U32 token, F32); the constraint's text; the cache's salt.
struct GenerateTokens $Wire.kind(0x0230) {
  stream @0 :UInt64;
  promptCount @1 :UInt32;
  sampling @2 :Sampling;
  maxNewTokens @3 :UInt32;
  stopIds @4 :List(UInt32);
  deadlineMs @5 :UInt32;
  credits @6 :UInt32;
  frequencyPenalty @7 :Float32;
  presencePenalty @8 :Float32;
  repetitionPenalty @9 :Float32 = 1;
  biasCount @10 :UInt32;
  priority @11 :Int32;
  constraintKind @12 :UInt8;
  constraintBytes @13 :UInt32;
  beginsInThought @14 :Bool;
  saltBytes @15 :UInt32;
}
struct GenerationAccepted $Wire.kind(0x0231) {
  stream @0 :UInt64;
  waitingBefore @1 :UInt32;
  comeAgainMs @2 :UInt32;
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
  cachedTokens @8 :UInt32;
  preemptions @9 :UInt32;
  comeAgainMs @10 :UInt32;
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
