// Penalties, biases and masks, by OpenAI's and vLLM's definitions.
#include "model/penalties.hpp"

#include <cmath>
#include <limits>

#include "model/sampler.hpp"
#include "support/test.hpp"

namespace consort::model {
namespace {

const std::vector<float> kLogits = {2.0F, 1.5F, -1.0F, 0.5F, 1.9F};
SampledToken greedy(const LogitAdjustment& adjustment) {
  auto sampled = sample(kLogits, {.temperature = 0, .top_logprobs = 2}, 3, adjustment);
  REQUIRE_MESSAGE(sampled.ok(), (sampled.ok() ? "" : sampled.error().text));
  return *sampled;
}
bool is_refused(const PenaltyParams& params, const std::string& field) {
  const auto status = check(params);
  return !status.ok() && status.error().text.find(field) != std::string::npos;
}

TEST_CASE("logits are adjusted by bias, repetition, frequency and presence, and the mask, in this order") {
  const std::vector<std::uint32_t> prompt = {3, 2};
  Penalties penalties({0.5F, 0.25F, 2.0F, {{2, -1.0F}, {0, 1.0F}}}, prompt);
  for (const std::uint32_t token : {0u, 4u, 0u}) penalties.count(token);
  LogitAdjustment adjustment = penalties.adjustment();
  CHECK(adjustment.biases == std::vector<TokenBias>{{0, 1.0F}, {2, -1.0F}});
  CHECK(adjustment.repeated == std::vector<std::uint32_t>{0, 2, 3, 4});
  CHECK(adjustment.penalties == std::vector<TokenBias>{{0, 1.25F}, {4, 0.75F}});
  TokenMask mask(5);
  for (const std::size_t token : {0u, 1u, 2u, 4u}) mask.allow(token);
  adjustment.mask = std::make_shared<const TokenMask>(mask);
  auto logits = kLogits;
  adjust(logits, adjustment);
  CHECK(logits[0] == (2.0F + 1.0F) / 2.0F - 1.25F);
  CHECK(logits[1] == 1.5F);
  CHECK(logits[2] == (-1.0F - 1.0F) * 2.0F);
  CHECK(logits[3] == -std::numeric_limits<float>::infinity());
  CHECK(logits[4] == 1.9F / 2.0F - 0.75F);
}

TEST_CASE("presence and frequency count what was generated, repetition the prompt too") {
  const std::vector<std::uint32_t> prompt = {0, 1};
  CHECK(Penalties({1.0F, 1.0F, 1.0F, {}}, prompt).adjustment().is_empty());
  CHECK(Penalties({0, 0, 1.5F, {}}, prompt).adjustment().repeated == prompt);
  Penalties none({}, prompt);
  none.count(0);
  CHECK(none.adjustment().is_empty());
}

TEST_CASE("an adjustment decides the token and leaves the log-probabilities the model's own") {
  const SampledToken plain = greedy({});
  CHECK(plain.token == 0);
  LogitAdjustment adjustment;
  adjustment.biases = {{0, -100.0F}};
  const SampledToken biased = greedy(adjustment);
  CHECK(biased.token == 4);
  CHECK(biased.alternatives == plain.alternatives);
  CHECK(biased.logprob == plain.alternatives[1].logprob);
  for (std::uint64_t position = 0; position < 200; ++position) {
    CHECK(sample(kLogits, {.temperature = 5, .seed = 3}, position, adjustment)->token != 0);
  }
}

TEST_CASE("a mask of one token leaves that one, whatever the temperature, and of none is an error in words") {
  for (std::size_t only = 0; only < kLogits.size(); ++only) {
    TokenMask mask(kLogits.size());
    mask.allow(only);
    LogitAdjustment adjustment;
    adjustment.mask = std::make_shared<const TokenMask>(mask);
    adjustment.biases = {{0, 100.0F}};
    for (const float temperature : {0.0F, 1.0F, 50.0F}) {
      const auto sampled = sample(kLogits, {.temperature = temperature, .top_k = 2, .top_p = 0.9F}, 7, adjustment);
      REQUIRE(sampled.ok());
      CHECK(sampled->token == static_cast<std::int32_t>(only));
    }
  }
  LogitAdjustment nothing;
  nothing.mask = std::make_shared<const TokenMask>(kLogits.size());
  const auto sampled = sample(kLogits, {}, 7, nothing);
  REQUIRE_FALSE(sampled.ok());
  CHECK(sampled.error().text.find("leave no token") != std::string::npos);
}

TEST_CASE("what is out of range is refused by the field's name") {
  CHECK(check(PenaltyParams{-2.0F, 2.0F, 10.0F, {{1, -100.0F}, {2, 100.0F}}}).ok());
  CHECK(is_refused({2.5F, 0, 1, {}}, "frequency_penalty"));
  CHECK(is_refused({std::nanf(""), 0, 1, {}}, "frequency_penalty"));
  CHECK(is_refused({0, -2.5F, 1, {}}, "presence_penalty"));
  CHECK(is_refused({0, 0, 0, {}}, "repetition_penalty"));
  CHECK(is_refused({0, 0, 1, {{1, 100.5F}}}, "logit_bias"));
  CHECK(is_refused({0, 0, 1, {{1, 1}, {1, 2}}}, "logit_bias"));
  CHECK(is_refused({0, 0, 1, std::vector<TokenBias>(kMaxLogitBiases + 1)}, "logit_bias"));
  LogitAdjustment outside;
  outside.repeated = {5};
  CHECK_FALSE(check(outside, 5).ok());
  CHECK(check(outside, 6).ok());
  outside.repetition_penalty = 0;
  CHECK_FALSE(check(outside, 6).ok());
  LogitAdjustment infinite;
  infinite.biases = {{1, std::numeric_limits<float>::infinity()}};
  CHECK_FALSE(check(infinite, 6).ok());
}

TEST_CASE("a mask allows what it was told and nothing beyond its tokens") {
  TokenMask mask(70, {0xFFFFFFFF});
  CHECK(mask.words().size() == 3);
  CHECK(mask.allows(31));
  CHECK_FALSE(mask.allows(32));
  mask.allow(69);
  CHECK(mask.allows(69));
  CHECK_FALSE(mask.allows(70));
  CHECK_FALSE(TokenMask(70, {0, 0, 0xFFFFFFFF}).allows(95));
}

}  // namespace
}  // namespace consort::model
