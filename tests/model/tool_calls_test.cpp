#include "model/text/tool_calls.hpp"

#include <boost/json.hpp>
#include <random>

#include "grammar_walk.hpp"
#include "model/text/answer_text.hpp"
#include "model/text/chat_format.hpp"

namespace consort::model {
namespace {

// The ids of a text in which markers stand as such.
std::vector<std::int32_t> ids_of(const Tokenizer& tokenizer, const std::string& text) {
  auto ids = tokenizer.encode(text);
  REQUIRE_MESSAGE(ids.ok(), ids.error().text);
  return *ids;
}

struct Heard {
  std::string content, reasoning;
  std::vector<ToolCall> calls;
  std::vector<ToolCallReader::Delta> deltas;
};

// As the Gateway does it.
Heard hear(const std::string& text, ToolCallReader::Options options, bool begins_in_thought = false,
           std::vector<std::string> stops = {}) {
  static const Tokenizer tokenizer = tests::grammar_tokenizer();
  AnswerText answer(tokenizer, {true, begins_in_thought, std::move(stops), ToolMarkers::of(tokenizer).ids()});
  ToolCallReader reader(tokenizer, std::move(options));
  Heard heard;
  const auto add = [&](const ToolCallReader::Piece& piece) {
    heard.content += piece.content;
    for (const auto& delta : piece.calls) {
      heard.deltas.push_back(delta);
      if (delta.index >= heard.calls.size()) heard.calls.resize(delta.index + 1);
      heard.calls[delta.index].name += delta.name;
      heard.calls[delta.index].arguments += delta.arguments;
    }
  };
  const auto take = [&](const AnswerText::Piece& piece) {
    heard.reasoning += piece.reasoning;
    if (!piece.content.empty()) add(reader.text(piece.content));
    if (piece.marker) add(reader.marker(*piece.marker));
  };
  for (const std::int32_t id : ids_of(tokenizer, text)) take(answer.add(id));
  take(answer.finish());
  add(reader.finish());
  CHECK(reader.calls() == heard.calls.size());
  return heard;
}

const ToolCallReader::Options kBare{false, {"get_weather", "now"}, false};
const ToolCallReader::Options kFenced{true, {"get_weather", "now"}, false};

const std::string kBareCall =
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"北京\"}<｜tool▁call▁end｜>";
const std::string kFencedCall =
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": "
    "\"北京\"}\n```<｜tool▁call▁end｜>";
const std::string kEnd = "<｜tool▁calls▁end｜>";

}  // namespace

TEST_CASE("a call is read as V3.1 and as V3 write it, apart from what is said") {
  for (const auto& [text, options] : {std::pair{kBareCall, kBare}, {kFencedCall, kFenced}}) {
    const Heard heard = hear("I look." + text + kEnd, options);
    CHECK(heard.content == "I look.");
    REQUIRE(heard.calls.size() == 1);
    CHECK(heard.calls[0].name == "get_weather");
    CHECK(heard.calls[0].arguments == "{\"city\": \"北京\"}");
    // The name comes first and alone.
    REQUIRE(heard.deltas.size() >= 2);
    CHECK(heard.deltas[0].name == "get_weather");
    CHECK(heard.deltas[0].arguments.empty());
    CHECK(heard.deltas[1].name.empty());
  }
}

TEST_CASE("several calls of one answer count up") {
  const Heard bare = hear(kBareCall + "<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜>" + kEnd, kBare);
  REQUIRE(bare.calls.size() == 2);
  CHECK(bare.calls[1].name == "now");
  CHECK(bare.calls[1].arguments == "{}");
  CHECK(bare.content.empty());
  const Heard fenced =
      hear(kFencedCall + "\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜>" +
               kEnd + "done",
           kFenced);
  REQUIRE(fenced.calls.size() == 2);
  CHECK(fenced.calls[1].name == "now");
  CHECK(fenced.content == "done");
}

TEST_CASE("blanks where the format has none do not make a call malformed") {
  const Heard heard = hear(
      "<｜tool▁calls▁begin｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now \n\n```json\n { \"a\" : 1 } "
      "\n```\n<｜tool▁call▁end｜>",
      kFenced);
  REQUIRE(heard.calls.size() == 1);
  CHECK(heard.calls[0].arguments == "{ \"a\" : 1 }");
  CHECK(heard.content.empty());  // a list that does not end, after whole calls, loses nothing
}

TEST_CASE("what is no whole call of an offered tool comes back as the model wrote it") {
  const std::string begin = "<｜tool▁calls▁begin｜>", call = "<｜tool▁call▁begin｜>", sep = "<｜tool▁sep｜>",
                    end = "<｜tool▁call▁end｜>";
  for (const std::string& text :
       {begin, begin + call, begin + call + "now" + sep, begin + call + "now" + sep + "{}",             // unfinished
        begin + call + "other" + sep + "{}" + end + kEnd,                                               // not offered
        begin + call + "now" + sep + "{\"a\":" + end + kEnd, begin + call + "now" + sep + "[1]" + end,  // not an object
        begin + call + "now" + sep + "{\"a\":1,\"a\":2}" + end,                                         // says it twice
        begin + call + "now{}" + end + kEnd, begin + "text" + call, begin + sep, end, kEnd, sep + "x",  // out of place
        begin + begin + call, begin + call + call + "now" + sep + "{}" + end}) {
    CAPTURE(text);
    const Heard heard = hear("a " + text + " b", kBare);
    CHECK(heard.calls.empty());
    CHECK(heard.content == "a " + text + " b");
  }
  for (const std::string& text :
       {begin + call + "now" + sep + "{}" + end, begin + call + "function" + sep + "now\n{}" + end,
        begin + call + "function" + sep + "now\n```json\n{}" + end,
        begin + call + "function" + sep + "now\n```" + end}) {
    CAPTURE(text);
    const Heard heard = hear(text, kFenced);
    CHECK(heard.calls.empty());
    CHECK(heard.content == text);
  }
  // A whole one before it stays a call.
  const Heard both = hear(kBareCall + call + "other" + sep + "{}" + end, kBare);
  CHECK(both.calls.size() == 1);
  CHECK(both.content == call + "other" + sep + "{}" + end);
}

TEST_CASE("calls are not looked for in thoughts, and text cannot play one") {
  const Heard thought = hear("so " + kBareCall + "</think>\n\nNo.", kBare, true);
  CHECK(thought.calls.empty());
  CHECK(thought.content == "No.");
  CHECK(thought.reasoning.find("get_weather") != std::string::npos);
  ToolCallReader reader(tests::grammar_tokenizer(), kBare);
  CHECK(reader.text(kBareCall + kEnd).content == kBareCall + kEnd);
  CHECK(reader.calls() == 0);
}

TEST_CASE("stop texts end what is said, not the arguments of a call") {
  const Heard heard = hear("look " + kBareCall + kEnd, kBare, false, {"city"});
  CHECK(heard.calls.size() == 1);
  CHECK(hear("the city " + kBareCall, kBare, false, {"city"}).content == "the ");
}

TEST_CASE("under a grammar arguments go out as they come, and join to the whole") {
  const Tokenizer tokenizer = tests::grammar_tokenizer();
  const auto compile = make_constraint_compiler(tokenizer);
  const std::string parameters =
      R"({"type":"object","properties":{"s":{"type":"string"},"n":{"type":"array","items":{"type":"integer"}}},"required":["s","n"],"additionalProperties":false})";
  int calls = 0;
  for (const char* format : {"v3", "v3.1"}) {
    const ConstraintSpec spec{ConstraintKind::kToolCalls,
                              tool_call_text({format, true, {{"f", parameters}, {"fg", ""}}})};
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
      std::mt19937_64 rng(seed);
      const auto constraint = tests::constraint_of(compile, spec);
      // Past the choice of thinking, which a random walk might take.
      const tests::Walk made = tests::walk(*constraint, tokenizer, rng, 40);
      if (!made.ended || made.ids.front() == 4) continue;
      ToolCallReader reader(tokenizer, {std::string_view(format) == "v3", {"f", "fg"}, true});
      AnswerText answer(tokenizer, {true, false, {}, ToolMarkers::of(tokenizer).ids()});
      std::vector<ToolCall> heard;
      std::string content;
      std::size_t pieces = 0;
      const auto add = [&](const ToolCallReader::Piece& piece) {
        content += piece.content;
        for (const auto& delta : piece.calls) {
          ++pieces;
          if (delta.index >= heard.size()) heard.resize(delta.index + 1);
          heard[delta.index].name += delta.name;
          heard[delta.index].arguments += delta.arguments;
        }
      };
      for (const std::int32_t id : made.ids) {
        const auto piece = answer.add(id);
        if (!piece.content.empty()) add(reader.text(piece.content));
        if (piece.marker) add(reader.marker(*piece.marker));
      }
      add(reader.finish());
      CAPTURE(made.text);
      CHECK(content.empty());
      REQUIRE_FALSE(heard.empty());
      for (const ToolCall& call : heard) {
        CHECK((call.name == "f" || call.name == "fg"));
        boost::json::error_code code;
        const auto value = boost::json::parse(call.arguments, code);
        REQUIRE_MESSAGE(!code, call.arguments);
        CHECK(value.is_object());
        if (call.name == "f") CHECK((value.at("s").is_string() && value.at("n").is_array()));
        ++calls;
      }
      CHECK(pieces > heard.size());
    }
  }
  CHECK(calls > 60);
}

}  // namespace consort::model
