// Codecs: what goes over the wire comes back the same, and what does not fit together is refused before it is touched.
#include "support/test.hpp"

#include <cstring>
#include <random>

#include "actors/experts/part_messages.hpp"
#include "actors/serving/step_messages.hpp"

using namespace consort;
using namespace consort::actors;
using runtime::Buffer;
using runtime::Codec;
using runtime::ErrorKind;

namespace {

ComputeParts three_rows() {
  std::vector<float> rows(5 * 4);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i);
  const runtime::ConstTensorView source(reinterpret_cast<const std::byte*>(rows.data()), runtime::Dtype::kF32, {5, 4});
  ComputeParts message;
  message.key = {runtime::NodeId{3}, runtime::Incarnation{9}, 77, runtime::LayerIndex{2}, 1};
  message.plan_digest = 1234567;
  const auto part = [](std::uint32_t expert, std::vector<std::uint32_t> of) {
    return PartRequest{{runtime::LayerIndex{2}, model::PartKind::kRoutedExpert, expert, 16, 32}, std::move(of)};
  };
  const std::vector<PartRequest> parts = {part(4, {1, 4}), part(7, {2})};
  const std::vector<std::uint32_t> travelling = {1, 2, 4};
  pack_compute_parts(message, Buffer::allocate(compute_parts_payload_bytes(3, 4, parts)), source, travelling, parts);
  return message;
}

template <class M>
M there_and_back(const M& message) {
  auto wire = Codec<M>::encode(message);
  REQUIRE(wire.ok());
  auto back = Codec<M>::decode(wire->metadata, wire->payload);
  REQUIRE_MESSAGE(back.ok(), (back.ok() ? "" : back.error().text));
  return std::move(back).value();
}

// Every shortened or lengthened form is kMalformed, and no flipped byte of the payload or metadata crashes.
template <class M>
void check_refusals(const M& message) {
  const auto wire = Codec<M>::encode(message).value();
  const auto payload = wire.payload.bytes();
  for (std::size_t cut = 0; cut < wire.metadata.size(); cut += 4) {
    const auto back = Codec<M>::decode(std::span(wire.metadata).first(cut), wire.payload);
    if (!back.ok()) CHECK(back.error().kind == ErrorKind::kMalformed);
    if (cut % 8 != 0) CHECK_FALSE(back.ok());
  }
  std::vector<std::byte> longer(payload.begin(), payload.end());
  longer.resize(payload.size() + 4);
  CHECK_FALSE(Codec<M>::decode(wire.metadata, Buffer::copy_of(longer)).ok());
  if (!payload.empty()) {
    CHECK_FALSE(Codec<M>::decode(wire.metadata, Buffer::copy_of(payload.first(payload.size() - 1))).ok());
    CHECK_FALSE(Codec<M>::decode(wire.metadata, Buffer{}).ok());
  }
  std::mt19937 chance(7);
  for (int i = 0; i < 2000; ++i) {
    std::vector<std::byte> metadata = wire.metadata;
    metadata[chance() % metadata.size()] ^= static_cast<std::byte>(1u << (chance() % 8));
    (void)Codec<M>::decode(metadata, wire.payload);
    if (payload.empty()) continue;
    std::vector<std::byte> flipped(payload.begin(), payload.end());
    flipped[chance() % flipped.size()] ^= static_cast<std::byte>(1u << (chance() % 8));
    (void)Codec<M>::decode(wire.metadata, Buffer::copy_of(flipped));
  }
}

model::LogitAdjustment adjusted() {
  model::TokenMask mask(70);
  for (const std::size_t token : {0u, 31u, 32u, 69u}) mask.allow(token);
  return {{{3, 1.5F}, {9, -100}}, 1.25F, {2, 9}, {{9, 0.5F}}, std::make_shared<const model::TokenMask>(mask)};
}

}  // namespace

TEST_CASE("ComputeParts carries only the rows it needs, and its tables") {
  const ComputeParts sent = three_rows();
  CHECK(sent.row_count == 3);
  CHECK(sent.output_count == 3);
  const ComputeParts got = there_and_back(sent);
  CHECK(got.key == sent.key);
  CHECK(got.plan_digest == sent.plan_digest);
  CHECK(got.payload.bytes().data() == sent.payload.bytes().data());  // the payload was not copied
  CHECK(got.rows().f32(0)[0] == 4.0F);                               // row 1 of the source
  CHECK(got.rows().f32(2)[3] == 19.0F);                              // row 4
  const auto parts = got.parts();
  REQUIRE(parts.size() == 2);
  CHECK(parts[0].part.index == 4);
  CHECK(parts[0].part.first_column == 16);
  CHECK(parts[0].part.column_count == 32);
  CHECK(parts[0].part.layer == runtime::LayerIndex{2});
  CHECK(std::vector(parts[0].rows.begin(), parts[0].rows.end()) == std::vector<std::uint32_t>{0, 2});
  CHECK(std::vector(parts[1].rows.begin(), parts[1].rows.end()) == std::vector<std::uint32_t>{1});
}

TEST_CASE("a payload that lies unaligned is copied, not read in place") {
  const auto wire = Codec<ComputeParts>::encode(three_rows()).value();
  Buffer shifted = Buffer::allocate(wire.payload.size() + 1);
  std::memcpy(shifted.mutable_bytes().data() + 1, wire.payload.bytes().data(), wire.payload.size());
  const auto got = Codec<ComputeParts>::decode(wire.metadata, shifted.slice(1, wire.payload.size()));
  REQUIRE(got.ok());
  CHECK(got->rows().f32(0)[0] == 4.0F);
}

TEST_CASE("ComputeParts whose tables do not fit together is refused") {
  const auto wire = Codec<ComputeParts>::encode(three_rows()).value();
  const std::size_t table = 3 * 4 * sizeof(float);
  const auto with = [&](std::size_t word, std::uint32_t value) {
    Buffer payload = Buffer::copy_of(wire.payload.bytes());
    std::memcpy(payload.mutable_bytes().data() + table + word * 4, &value, 4);
    return Codec<ComputeParts>::decode(wire.metadata, payload).ok();
  };
  CHECK(with(0, 1));                         // as it was
  CHECK_FALSE(with(0, 9));                   // a kind that does not exist
  CHECK_FALSE(with(3, 0));                   // no columns
  CHECK_FALSE(with(4, 0));                   // no rows
  CHECK_FALSE(with(4, 3));                   // more rows than announced
  CHECK_FALSE(with(4, 1));                   // fewer
  CHECK_FALSE(with(2 * kPartWords, 3));      // a row that is not there
  CHECK_FALSE(with(2 * kPartWords + 1, 0));  // rows that do not ascend
}

TEST_CASE("no message of the experts and of serving crashes its decoder when cut or flipped") {
  check_refusals(three_rows());
  PartOutputs outputs{4, 2, Buffer::allocate(2 * 4 * sizeof(float))};
  check_refusals(outputs);
  RunStep step{5, 6, true, {}};
  step.sequences.push_back({1, 64, {3, 4}, {5, 6, 7}, 2, {}, adjusted(), 0});
  step.sequences.push_back({2, 0, {9}, {8}, 1, {}, {}, 77});
  check_refusals(step);
  StepDone done{
      6,
      {{1, true, false, "layer 2 expert 3 is nowhere", {}}, {2, false, false, "", {{7, -0.5F, 99, {{7, -0.5F}}}}}},
      {}};
  check_refusals(done);
  GenerateTokens generate;
  generate.prompt = {1, 2, 3};
  generate.stop_ids = {4};
  generate.penalties.logit_bias = {{7, -1}, {9, 2}};
  generate.constraint = {model::ConstraintKind::kJsonSchema, "{\"type\": \"object\"}", true};
  generate.cache_salt = "salt";
  check_refusals(generate);
  TokensGenerated tokens{1, 2, {3, 4}, {-1, -2}, {5, 6}, 1, {{3, -1}, {9, -2}}};
  check_refusals(tokens);
  check_refusals(GenerationEnded{1, EndReason::kDeadline, "the deadline passed", 3, 4, 0, 1});
  check_refusals(ComputeLogits{{1, 2, 3}, 1000});
  check_refusals(LogitsSlice{100, Buffer::allocate(10)});
  check_refusals(ReadLogitsSlice{1, "hidden.3", 5, 100});
  check_refusals(WarmUpDone{{runtime::NodeId{1}}, {runtime::NodeId{1}, runtime::NodeId{2}}});
}

TEST_CASE("steps and streams come back as they were sent") {
  RunStep step{5, 6, true, {}};
  model::SamplingParams sampling;
  sampling.temperature = 0.25F;
  sampling.top_k = 40;
  sampling.seed = 0xFFFFFFFFFFULL;
  sampling.top_logprobs = 3;
  step.sequences.push_back({1, 64, {3, 4}, {5, 6, 7}, 2, sampling, adjusted(), 11});
  step.sequences.push_back({2, 0, {5}, {6}, 0, {}, {}, 0});
  step.sequences.push_back({3, 0, {6}, {6}, 0, {}, {}, 0});
  step.sequences.back().adjustment.mask = step.sequences.front().adjustment.mask;
  const RunStep got = there_and_back(step);
  CHECK(got.ledger == 5);
  CHECK(got.step == 6);
  CHECK(got.visit_all_nodes);
  REQUIRE(got.sequences.size() == 3);
  const model::LogitAdjustment& adjustment = got.sequences[0].adjustment;
  CHECK(adjustment.biases == adjusted().biases);
  CHECK(adjustment.repetition_penalty == 1.25F);
  CHECK(adjustment.repeated == adjusted().repeated);
  CHECK(adjustment.penalties == adjusted().penalties);
  REQUIRE(adjustment.mask != nullptr);
  CHECK(*adjustment.mask == *adjusted().mask);
  CHECK(got.sequences[1].adjustment.is_empty());
  CHECK(got.sequences[2].adjustment.mask == adjustment.mask);  // it travelled once
  CHECK(got.sequences[0].pages == step.sequences[0].pages);
  CHECK(got.sequences[0].tokens == step.sequences[0].tokens);
  CHECK(got.sequences[0].first_sampled_row == 2);
  CHECK(got.sequences[0].capture == 11);
  CHECK(got.sequences[0].sampling.temperature == 0.25F);
  CHECK(got.sequences[0].sampling.top_k == 40);
  CHECK(got.sequences[0].sampling.seed == sampling.seed);
  CHECK(got.sequences[0].sampling.top_logprobs == 3);

  const TokensGenerated tokens{1, 2, {3, 4}, {-1, -2}, {5, 6}, 1, {{3, -1}, {9, -2}}};
  const TokensGenerated back = there_and_back(tokens);
  CHECK(back.first_index == 2);
  CHECK(back.ids == tokens.ids);
  CHECK(back.logprobs == tokens.logprobs);
  CHECK(back.logits_crcs == tokens.logits_crcs);
  CHECK(back.alternatives == tokens.alternatives);

  const StepDone done{6, {{2, false, false, "", {{7, -0.5F, 99, {{7, -0.5F}}}}}}, {runtime::NodeId{4}}};
  const StepDone answered = there_and_back(done);
  CHECK(answered.sequences[0].sampled == done.sequences[0].sampled);
  CHECK(answered.visited == done.visited);
  const GenerationEnded ended =
      there_and_back(GenerationEnded{1, EndReason::kDeadline, "why", 3, 4, 5, 6, ErrorKind::kExhausted, 7, 8, 9});
  CHECK(ended.cached_tokens == 7);
  CHECK(ended.preemptions == 8);
  CHECK(ended.come_again_ms == 9);
  CHECK(ended.kind == ErrorKind::kExhausted);
  CHECK(ended.reason == EndReason::kDeadline);
  CHECK(ended.text == "why");
  CHECK(ended.decoder_moves == 5);
  CHECK(ended.waits == 6);
}

TEST_CASE("a request's penalties, constraint, priority and salt come back as they were sent") {
  GenerateTokens generate;
  generate.prompt = {1, 2, 3};
  generate.penalties = {0.5F, -1.5F, 1.1F, {{7, -1}, {9, 2}}};
  generate.constraint = {model::ConstraintKind::kJsonSchema, "{}", true};
  generate.priority = -5;
  generate.cache_salt = std::string("a\0b", 3);
  const GenerateTokens got = there_and_back(generate);
  CHECK(got.prompt == generate.prompt);
  CHECK(got.penalties == generate.penalties);
  CHECK(got.constraint == generate.constraint);
  CHECK(got.priority == -5);
  CHECK(got.cache_salt == generate.cache_salt);
  CHECK(there_and_back(GenerationAccepted{1, 2, 3}).come_again_ms == 3);
  generate.constraint.text.assign(model::kMaxConstraintBytes + 1, ' ');
  CHECK_FALSE(Codec<GenerateTokens>::encode(generate).ok());
}

TEST_CASE("the largest step and its answer fit a frame's head") {
  RunStep step{5, 6, false, {}};
  StepDone done{6, {}, {}};
  for (std::uint32_t i = 0; i < kMaxStepSequences; ++i) {
    step.sequences.push_back({i, 64, {3, 4}, {5}, 0, {}, adjusted(), 0});
    done.sequences.push_back({i, true, false, std::string(400, 'x'), {{7, -0.5F, 99, {}}}});
    for (int k = 0; k < model::kMaxTopLogprobs; ++k)
      done.sequences.back().sampled[0].alternatives.push_back({k, -1.0F});
  }
  CHECK(there_and_back(step).sequences.size() == kMaxStepSequences);
  CHECK(there_and_back(done).sequences.back().sampled == done.sequences.back().sampled);
}
