#include <boost/json.hpp>
#include <chrono>
#include <set>

#include "grammar_walk.hpp"
#include "model/grammar/masks.hpp"
#include "model/text/tool_calls.hpp"
#include "tokenizer_vocabularies.hpp"

namespace consort::model {
namespace {

using Clock = std::chrono::steady_clock;
double milliseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

std::set<std::int32_t> allowed(TokenConstraint& constraint) {
  const auto mask = constraint.mask();
  REQUIRE(mask != nullptr);
  std::set<std::int32_t> ids;
  for (std::size_t id = 0; id < mask->token_count(); ++id) {
    if (mask->allows(id)) ids.insert(static_cast<std::int32_t>(id));
  }
  return ids;
}

constexpr std::int32_t byte_id(char c) { return 32 + static_cast<unsigned char>(c); }
constexpr std::int32_t kThink = 4, kThinkEnd = 5, kCallsBegin = 6, kCallsEnd = 7, kCallBegin = 8, kCallEnd = 9,
                       kSeparator = 10;

void take(TokenConstraint& constraint, std::string_view text) {
  for (const char c : text) {
    CAPTURE(text);
    REQUIRE(allowed(constraint).contains(byte_id(c)));
    REQUIRE(constraint.advance(static_cast<std::uint32_t>(byte_id(c))).ok());
  }
}
void take_marker(TokenConstraint& constraint, std::int32_t id) {
  REQUIRE(allowed(constraint).contains(id));
  REQUIRE(constraint.advance(static_cast<std::uint32_t>(id)).ok());
}

// The mask of a state token by token, without the tree.
void check_against_each_token(GrammarMasks& masks, const std::string& before) {
  GrammarArena arena;
  std::vector<GrammarThread> now{GrammarMachine::at_state(masks.machine().grammar().start)}, next;
  for (const char byte : before) {
    masks.machine().step(now, static_cast<std::uint8_t>(byte), next, arena);
    now.swap(next);
  }
  CAPTURE(before);
  REQUIRE_FALSE(now.empty());
  const auto mask = masks.make(masks.key(now), now);
  const Tokenizer& tokenizer = masks.vocabulary().tokenizer();
  std::size_t differ = 0;
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.is_eos(id)) continue;
    GrammarArena scratch;
    const bool may = !masks.after(now, static_cast<std::uint32_t>(id), scratch).empty();
    differ += may == mask->allows(static_cast<std::size_t>(id)) ? 0 : 1;
  }
  CHECK(differ == 0);
}

constexpr const char* kOrder =
    R"({"type":"object","properties":{"item":{"type":"string","maxLength":40},"count":{"type":"integer","minimum":1,"maximum":99},)"
    R"("tags":{"type":"array","items":{"enum":["new","used","red"]}},"note":{"anyOf":[{"type":"string","pattern":"^[A-Z].*$"},{"type":"null"}]},)"
    R"("more":{}},"required":["item","count"],"additionalProperties":false})";

}  // namespace

TEST_CASE("a mask is what each token alone would find") {
  const auto vocabulary = std::make_shared<const GrammarVocabulary>(tests::grammar_tokenizer());
  GrammarMasks masks(tests::grammar_of(kOrder), vocabulary);
  for (const char* before : {"",
                             "{",
                             "{\"",
                             R"({"item":)",
                             R"({"item":")",
                             R"({"item":"a\)",
                             R"({"item":"a\u00)",
                             R"({"item":"é)",
                             "{\"item\":\"\xC3",
                             R"({"item":"0123456789012345678901234567890123456789)",
                             R"({"item":"x")",
                             R"({"item":"x",)",
                             R"({"item":"x","count":)",
                             R"({"item":"x","count":9)",
                             R"({"item":"x","count":12,"tags":[)",
                             R"({"item":"x","count":12,"tags":["r)",
                             R"({"item":"x","count":12,"note":)",
                             R"({"item":"x","count":12,"note":"A)",
                             R"({"item":"x","count":12,"more":{"a":[[{"b":")",
                             R"({"item":"x","count":12,"more":{"a)"}) {
    check_against_each_token(masks, before);
  }
}

TEST_CASE("states that allow the same share one mask, and those that do not do not") {
  const auto vocabulary = std::make_shared<const GrammarVocabulary>(tests::grammar_tokenizer());
  GrammarMasks masks(tests::grammar_of(R"({"type":"array","items":{"type":"string","maxLength":100}})"), vocabulary);
  const auto key = [&](const std::string& text) {
    GrammarArena arena;
    std::vector<GrammarThread> now{GrammarMachine::at_state(masks.machine().grammar().start)}, next;
    for (const char byte : text) {
      masks.machine().step(now, static_cast<std::uint8_t>(byte), next, arena);
      now.swap(next);
    }
    return masks.key(now);
  };
  CHECK(key("[\"a") == key("[\"abc"));
  CHECK(key("[\"a\"") == key("[\"a\",\"b\",\"c\""));
  CHECK(key("[\"a") != key("[\"a\""));
  CHECK(key("[\"" + std::string(95, 'a')) != key("[\"" + std::string(96, 'a')));
}

TEST_CASE("the end may come where the value is whole, and nothing else may follow it") {
  const Tokenizer tokenizer = tests::grammar_tokenizer();
  const auto compile = make_constraint_compiler(tokenizer);
  const auto constraint =
      tests::constraint_of(compile, {ConstraintKind::kJsonSchema, R"({"type":"integer","maximum":12,"minimum":1})"});
  const std::int32_t twelve = *tokenizer.token_id("12");
  CHECK(allowed(*constraint) == std::set<std::int32_t>{kThink, 32 + '1', 32 + '2', 32 + '3', 32 + '4', 32 + '5',
                                                       32 + '6', 32 + '7', 32 + '8', 32 + '9', twelve});
  CHECK_FALSE(compile({ConstraintKind::kJsonSchema, "{\"not\":{}}"}).ok());
  take(*constraint, "1");
  CHECK(allowed(*constraint) == std::set<std::int32_t>{tests::kEndId, 32 + '0', 32 + '1', 32 + '2'});
  take(*constraint, "2");
  CHECK(allowed(*constraint) == std::set<std::int32_t>{tests::kEndId});
  CHECK_FALSE(constraint->advance(32 + '3').ok());
  CHECK(constraint->advance(tests::kEndId).ok());
  CHECK(allowed(*constraint) == std::set<std::int32_t>{tests::kEndId});
}

TEST_CASE("an end that comes too early is an error") {
  const auto compile = make_constraint_compiler(tests::grammar_tokenizer());
  const auto constraint = tests::constraint_of(compile, {ConstraintKind::kJsonObject, ""});
  take(*constraint, "{");
  CHECK_FALSE(constraint->advance(tests::kEndId).ok());
}

TEST_CASE("a thought is free but for the end, and the constraint begins behind it") {
  const auto compile = make_constraint_compiler(tests::grammar_tokenizer());
  const auto opened = tests::constraint_of(compile, {ConstraintKind::kJsonObject, "", true});
  CHECK(opened->mask_is_ready());
  CHECK_FALSE(allowed(*opened).contains(tests::kEndId));
  CHECK(allowed(*opened).size() == static_cast<std::size_t>(tests::grammar_tokenizer().vocab_size()) - 1);
  take(*opened, "I think }");
  take_marker(*opened, kThinkEnd);
  take(*opened, "\n\n{");
  // Where the model itself opens the thought.
  const auto own = tests::constraint_of(compile, {ConstraintKind::kJsonObject, ""});
  CHECK_FALSE(allowed(*own).contains(byte_id('\n')));
  take_marker(*own, kThink);
  take(*own, "so");
  take_marker(*own, kThinkEnd);
  take(*own, "\n{}");
  take_marker(*own, tests::kEndId);
  // Or does not.
  const auto none = tests::constraint_of(compile, {ConstraintKind::kJsonObject, ""});
  take(*none, "{");
  CHECK_FALSE(allowed(*none).contains(kThink));
}

TEST_CASE("markers are no text, whatever a string may hold") {
  const auto compile = make_constraint_compiler(tests::grammar_tokenizer());
  const auto constraint = tests::constraint_of(compile, {ConstraintKind::kJsonSchema, R"({"type":"string"})"});
  take(*constraint, "\"");
  for (const std::int32_t marker : {0, 1, 2, 3, 4, 5, 6}) CHECK_FALSE(allowed(*constraint).contains(marker));
  take(*constraint, "<think>\"");
}

TEST_CASE("calls of tools are written as the format has them, with arguments of the tool's schema") {
  const Tokenizer tokenizer = tests::grammar_tokenizer();
  const auto compile = make_constraint_compiler(tokenizer);
  const std::string numbers =
      R"({"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false})";
  const auto make = [&](const char* format, bool parallel) {
    return tests::constraint_of(
        compile, {ConstraintKind::kToolCalls,
                  tool_call_text({format, parallel, {{"count", numbers}, {"counter", ""}, {"now", "{}"}}})});
  };
  const auto bare = make("v3.1", true);
  take_marker(*bare, kCallsBegin);
  take_marker(*bare, kCallBegin);
  take(*bare, "count");
  CHECK(allowed(*bare).contains(byte_id('e')));
  take_marker(*bare, kSeparator);
  take(*bare, "{\"n\": 5}");
  CHECK(allowed(*bare) == std::set<std::int32_t>{kCallEnd});
  take_marker(*bare, kCallEnd);
  CHECK(allowed(*bare) == std::set<std::int32_t>{kCallBegin, kCallsEnd});
  take_marker(*bare, kCallBegin);
  take(*bare, "now");
  take_marker(*bare, kSeparator);
  take(*bare, "{\"x\":1}");
  take_marker(*bare, kCallEnd);
  take_marker(*bare, kCallsEnd);
  CHECK(allowed(*bare) == std::set<std::int32_t>{tests::kEndId});

  const auto fenced = make("r1", false);
  take_marker(*fenced, kCallsBegin);
  take_marker(*fenced, kCallBegin);
  take(*fenced, "function");
  take_marker(*fenced, kSeparator);
  take(*fenced, "counter\n```json\n{}\n```");
  take_marker(*fenced, kCallEnd);
  CHECK(allowed(*fenced) == std::set<std::int32_t>{kCallsEnd});  // one call only

  const auto says = [&](const ToolCallSpec& spec, std::string_view part) {
    const auto made = compile({ConstraintKind::kToolCalls, tool_call_text(spec)});
    REQUIRE_FALSE(made.ok());
    CAPTURE(made.error().text);
    CHECK(made.error().text.find(part) != std::string::npos);
  };
  says({"v2", true, {{"now", ""}}}, "no way to call tools");
  says({"v3", true, {{"now", R"({"type":"string"})"}}}, "tool now: its parameters must be of type object");
  says({"v3", true, {{"now", R"({"not":{}})"}}}, "tool now: the schema's /not");
  says({"v3", true, {}}, "not readable");
}

TEST_CASE("a vocabulary that cannot begin to write the schema is told at once") {
  auto adder = Tokenizer::from_directory(tests::adder_folder());  // digits and letters, no quotes
  REQUIRE(adder.ok());
  const auto compile = make_constraint_compiler(*adder);
  const auto made = compile({ConstraintKind::kJsonObject, ""});
  REQUIRE_FALSE(made.ok());
  CHECK(made.error().text.find("vocabulary cannot write") != std::string::npos);
  CHECK(compile({ConstraintKind::kJsonSchema, R"({"type":"integer"})"}).ok());
}

TEST_CASE("with the vocabulary of DeepSeek-V3 masks are quick, and right") {
  if (tests::vocabulary_folder("deepseek-v3").empty()) SKIP(tests::kNoVocabulary);
  auto tokenizer = Tokenizer::from_directory(tests::vocabulary_folder("deepseek-v3"));
  REQUIRE(tokenizer.ok());
  auto begin = Clock::now();
  const auto vocabulary = std::make_shared<const GrammarVocabulary>(*tokenizer);
  MESSAGE("vocabulary of " << vocabulary->token_count() << " tokens: " << milliseconds_since(begin) << " ms, "
                           << vocabulary->all().nodes().size() << " nodes");
  begin = Clock::now();
  GrammarMasks masks(tests::grammar_of(kOrder), vocabulary);
  MESSAGE("schema: " << milliseconds_since(begin) << " ms");
  // By the characters of an answer, as a model might write it.
  const std::string answer =
      R"({"item": "A \"grand\" piano, schwarz: 鋼琴 🚀", "count": 42, "tags": ["new", "red"], "note": "From 1887.", )"
      R"("more": {"a": [1, 2.5e-3, {"b": "x\u00e9"}], "c": null}})";
  std::vector<double> made;
  GrammarArena arena;
  std::vector<GrammarThread> now{GrammarMachine::at_state(masks.machine().grammar().start)}, next;
  std::set<std::string> keys;
  for (const char byte : answer) {
    const std::string key = masks.key(now);
    if (keys.insert(key).second) {
      begin = Clock::now();
      (void)masks.make(key, now);
      made.push_back(milliseconds_since(begin));
    }
    masks.machine().step(now, static_cast<std::uint8_t>(byte), next, arena);
    now.swap(next);
    REQUIRE_FALSE(now.empty());
  }
  std::ranges::sort(made);
  begin = Clock::now();
  constexpr int kLookups = 2000;
  for (int i = 0; i < kLookups; ++i) REQUIRE(masks.kept(masks.key(now)) == masks.kept(masks.key(now)));
  const double cached = milliseconds_since(begin) / (2 * kLookups);
  MESSAGE(made.size() << " new masks: median " << made[made.size() / 2] << " ms, longest " << made.back()
                      << " ms; cached " << cached * 1000 << " us");
  // Ten times the aim, since a busy machine is no reason to fail.
  CHECK(made[made.size() / 2] < 50);
  CHECK(cached < 0.5);
  for (const char* before : {"", "{\"item\": \"", "{\"item\": \"a 鋼", "{\"item\": \"a\", \"count\": 4",
                             "{\"item\":\"a\",\"count\":4,\"note\":"})
    check_against_each_token(masks, before);
}

}  // namespace consort::model
