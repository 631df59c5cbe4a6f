#include <boost/json.hpp>

#include "grammar_walk.hpp"
#include "schema_checker.hpp"

namespace consort::model {
namespace {

namespace json = boost::json;
using tests::accepts;
using tests::grammar_of;

bool takes(const std::string& schema, const std::string& text) { return accepts(grammar_of(schema), text); }

std::string refusal(const std::string& schema) {
  const auto grammar = compile_json_schema(schema);
  REQUIRE_FALSE(grammar.ok());
  return grammar.error().text;
}

// json::serialize writes numbers in a form of its own.
std::string written(const json::value& value) {
  if (value.is_double()) {
    std::ostringstream out;
    out << value.as_double();
    return out.str();
  }
  std::string out;
  if (value.is_array()) {
    for (const auto& one : value.as_array()) out += (out.empty() ? "" : ",") + written(one);
    return "[" + out + "]";
  }
  if (value.is_object()) {
    for (const auto& [key, one] : value.as_object())
      out += (out.empty() ? "" : ",") + json::serialize(json::value(key)) + ":" + written(one);
    return "{" + out + "}";
  }
  return json::serialize(value);
}

}  // namespace

TEST_CASE("every value that a random schema allows can be written, and every random walk is valid") {
  const Tokenizer tokenizer = tests::grammar_tokenizer();
  int accepted = 0, walked = 0, unfinished = 0, schemas = 0;
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    tests::SchemaMaker maker(seed);
    const json::value schema = maker.schema();
    const std::string text = json::serialize(schema);
    CAPTURE(seed);
    CAPTURE(text);
    const tests::SchemaChecker checker(schema);
    auto grammar = compile_json_schema(text);
    if (!grammar.ok()) {  // no value between the bounds, or a oneOf whose choices overlap: the maker makes some
      const bool is_fair = grammar.error().text.find("no value meets") != std::string::npos ||
                           grammar.error().text.find("one value may meet both") != std::string::npos;
      CHECK_MESSAGE(is_fair, grammar.error().text);
      continue;
    }
    ++schemas;
    for (int i = 0; i < 12; ++i) {
      const json::value value = maker.value(schema, schema);
      if (!checker.meets(value)) continue;  // the maker is only nearly right; the checker decides
      const std::string document = written(value);
      CAPTURE(document);
      CHECK(accepts(*grammar, document));
      ++accepted;
    }
    const auto compile = make_constraint_compiler(tokenizer);
    for (std::uint64_t i = 0; i < 4; ++i) {
      std::mt19937_64 rng(seed * 100 + i);
      const auto constraint = tests::constraint_of(compile, {ConstraintKind::kJsonSchema, text, true});
      REQUIRE(constraint->advance(5).ok());  // </think>
      const tests::Walk made = tests::walk(*constraint, tokenizer, rng, 10 + 30 * i);
      if (!made.ended) {
        ++unfinished;
        continue;
      }
      CAPTURE(made.text);
      json::error_code code;
      const json::value value = json::parse(made.text, code);
      REQUIRE_MESSAGE(!code, code.message());
      CHECK(checker.meets(value));
      ++walked;
    }
  }
  MESSAGE(schemas << " schemas, " << accepted << " values accepted, " << walked << " walks valid, " << unfinished
                  << " unfinished");
  CHECK(schemas > 300);
  CHECK(accepted > 2000);
  CHECK(walked > 1000);
  CHECK(unfinished * 50 < walked);
}

TEST_CASE("any text that a grammar accepts is valid, also texts near to valid ones") {
  int tried = 0, taken = 0;
  for (std::uint64_t seed = 1000; seed <= 1150; ++seed) {
    tests::SchemaMaker maker(seed);
    const json::value schema = maker.schema();
    const std::string text = json::serialize(schema);
    const auto grammar = compile_json_schema(text);
    if (!grammar.ok()) continue;
    const tests::SchemaChecker checker(schema);
    for (int i = 0; i < 40; ++i) {
      std::string document = written(maker.value(schema, schema));
      static constexpr std::string_view kBytes = "\"{}[]:,01-.etn \\a\n\xC3\xA9";
      for (std::size_t change = 0; change <= maker.pick(3); ++change) {
        const std::size_t at = maker.pick(document.size() + 1);
        const char byte = kBytes[maker.pick(kBytes.size())];
        if (at < document.size() && maker.chance(0.4)) {
          document.erase(at, 1);
        } else if (at < document.size() && maker.chance(0.5)) {
          document[at] = byte;
        } else {
          document.insert(at, 1, byte);
        }
      }
      ++tried;
      if (!accepts(*grammar, document)) continue;
      ++taken;
      CAPTURE(text);
      CAPTURE(document);
      json::error_code code;
      const json::value value = json::parse(document, code);
      REQUIRE_MESSAGE(!code, code.message());
      CHECK(checker.meets(value));
    }
  }
  CHECK(tried > 4000);
  CHECK(taken > 50);
}

TEST_CASE("a JSON object may hold anything, and nothing else is one") {
  const auto made = compile_json_object();
  REQUIRE(made.ok());
  for (const char* text : {"{}", R"({"a":1})", R"({"a": [1, 2.5e3, {"b": null}], "c": "\u00e9\ud83d\ude80\n"})",
                           "{\n  \"a\": true\n}", R"({"":"", "a": -0.5})"}) {
    CAPTURE(text);
    CHECK(accepts(*made, text));
  }
  for (const char* text : {"[]",
                           "1",
                           "{",
                           "{}}",
                           R"({"a"})",
                           R"({"a":})",
                           R"({"a":1,})",
                           R"({a:1})",
                           "{\"a\":\"\n\"}",
                           R"({"a":"\x"})",
                           R"({"a":"\ud83d"})",
                           R"({"a":"\ude80"})",
                           R"({"a":01})",
                           R"({"a":1.})",
                           R"({"a":+1})",
                           R"({"a":1e999})",
                           "{\"a\":\"\xC0\x80\"}",
                           "{\"a\":\"\xED\xA0\x80\"}",
                           "{\"a\":\"\xF4\x90\x80\x80\"}",
                           "{  \"a\":1}",
                           "{\"a\":  1}",
                           " {}",
                           "{} "}) {
    CAPTURE(text);
    CHECK_FALSE(accepts(*made, text));
  }
}

TEST_CASE("numbers keep their bounds, digit by digit") {
  const std::string whole = R"({"type":"integer","minimum":-3,"maximum":120})";
  for (int i = -200; i <= 200; ++i) CHECK(takes(whole, std::to_string(i)) == (i >= -3 && i <= 120));
  CHECK_FALSE(takes(whole, "-0"));
  CHECK_FALSE(takes(whole, "05"));
  CHECK_FALSE(takes(whole, "1.0"));
  const std::string step = R"({"type":"integer","exclusiveMinimum":10,"exclusiveMaximum":50,"multipleOf":7})";
  for (int i = 0; i <= 100; ++i) CHECK(takes(step, std::to_string(i)) == (i > 10 && i < 50 && i % 7 == 0));
  const std::string part = R"({"type":"number","minimum":0.25,"exclusiveMaximum":1})";
  for (const char* text : {"0.25", "0.3", "0.999999", "0.2500001"}) CHECK(takes(part, text));
  for (const char* text : {"0.2", "0.2499", "1", "1.0", "-0.5", "0", "3e-1"}) CHECK_FALSE(takes(part, text));
  CHECK(takes(R"({"type":"number","minimum":0})", "1758700000.5"));
  CHECK(takes(R"({"type":"number","maximum":-1})", "-1"));
  CHECK_FALSE(takes(R"({"type":"number","maximum":-1})", "-0.5"));
  CHECK(takes(R"({"type":"number"})", "-12.5E-3"));
  CHECK_FALSE(takes(R"({"type":"integer"})", "1e3"));
}

TEST_CASE("strings keep length, pattern and format, and characters count as such") {
  const std::string two = R"({"type":"string","minLength":2,"maxLength":3})";
  for (const char* text : {R"("ab")", "\"é漢🚀\"", R"("\u00e9\n")", R"("\ud83d\ude80\"")"}) CHECK(takes(two, text));
  for (const char* text : {R"("a")", R"("abcd")", R"("\u00e9")", R"("\ud83d\ude80")", R"("ab)"})
    CHECK_FALSE(takes(two, text));
  const std::string both = R"({"type":"string","pattern":"^[a-c]+$","minLength":2,"maxLength":3})";
  for (const char* text : {R"("ab")", R"("ccc")"}) CHECK(takes(both, text));
  for (const char* text : {R"("a")", R"("abca")", R"("ad")", R"("\u0061b")"}) CHECK_FALSE(takes(both, text));
  const std::string lines = R"({"type":"string","pattern":"^(a|\\n|\"|\u0001)*$"})";
  CHECK(takes(lines, R"("a\n\"\u0001a")"));
  CHECK_FALSE(takes(lines, R"("a\t")"));
  const auto format = [](const char* name, const char* text) {
    return takes(std::string(R"({"type":"string","format":")") + name + "\"}", "\"" + std::string(text) + "\"");
  };
  CHECK(format("date", "2024-02-29"));
  CHECK(format("date", "2000-02-29"));
  for (const char* bad : {"2023-02-29", "1900-02-29", "2024-13-01", "2024-04-31", "0000-01-01", "24-01-01"})
    CHECK_FALSE(format("date", bad));
  CHECK(format("date-time", "2026-11-24T17:35:45.25Z"));
  CHECK_FALSE(format("date-time", "2026-11-24 17:35:45Z"));
  CHECK(format("time", "23:59:59+01:00"));
  CHECK(format("uuid", "00112233-4455-6677-8899-aabbccddeeff"));
  CHECK(format("email", "a.b@example.org"));
  CHECK(format("ipv4", "192.168.0.255"));
  CHECK_FALSE(format("ipv4", "192.168.0.256"));
  CHECK(format("duration", "P1Y2M3DT4H5M6S"));
  CHECK_FALSE(format("duration", "P"));
  CHECK_FALSE(format("duration", "P1D2Y"));
  CHECK(format("hostname", "node-1.lab"));
  CHECK(format("ipv6", "fe80:0:0:0:1:2:3:abcd"));
}

TEST_CASE("properties come in the schema's order, additional ones behind and never under a name that is taken") {
  const std::string schema =
      R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"},"c":{"type":"integer"}},)"
      R"("required":["b"],"additionalProperties":{"type":"boolean"}})";
  for (const char* text :
       {R"({"b":1})", R"({"a":1,"b":2,"c":3})", R"({"b":2,"c":3,"d":true})", R"({"b":2,"":false,"bb":true})"})
    CHECK(takes(schema, text));
  for (const char* text : {R"({})", R"({"a":1})", R"({"b":1,"a":2})", R"({"d":true,"b":1})", R"({"b":1,"b":2})",
                           R"({"b":1,"d":1})", R"({"b":1,"\u0062":true})", R"({"b":1,"a":true})"})
    CHECK_FALSE(takes(schema, text));
  const std::string counted =
      R"({"type":"object","minProperties":2,"maxProperties":3,"properties":{"a":{},"b":{},"c":{},"d":{}},)"
      R"("required":["d"],"additionalProperties":false})";
  for (const char* text : {R"({"a":1,"d":2})", R"({"a":1,"c":2,"d":3})"}) CHECK(takes(counted, text));
  for (const char* text : {R"({"d":2})", R"({"a":1,"b":1,"c":2,"d":3})"}) CHECK_FALSE(takes(counted, text));
}

TEST_CASE("properties of one name count once") {
  CHECK(takes(R"({"type":"object","minProperties":1})", R"({"a":1})"));
  CHECK_FALSE(takes(R"({"type":"object","minProperties":1})", R"({})"));
  const std::string two = R"({"type":"object","minProperties":2,"properties":{"a":{}}})";
  CHECK(takes(two, R"({"a":1,"b":1})"));
  CHECK_FALSE(takes(two, R"({"a":1})"));
  CHECK_FALSE(takes(two, R"({"b":1,"b":1})"));
}

TEST_CASE("references recurse, and nesting is bounded") {
  const std::string list =
      R"({"$ref":"#/$defs/list","$defs":{"list":{"anyOf":[{"type":"null"},)"
      R"({"type":"object","properties":{"next":{"$ref":"#/$defs/list"}},"required":["next"],"additionalProperties":false}]}}})";
  const auto nested = [](int depth) {
    std::string text = "null";
    for (int i = 0; i < depth; ++i) text = R"({"next":)" + text + "}";
    return text;
  };
  CHECK(takes(list, nested(0)));
  CHECK(takes(list, nested(64)));
  CHECK_FALSE(takes(list, nested(65)));
  CHECK(refusal(R"({"type":"object","properties":{"me":{"$ref":"#"}},"required":["me"]})").find("no value meets") !=
        std::string::npos);
  CHECK(refusal(R"({"$ref":"#"})").find("no value meets") != std::string::npos);
  CHECK(takes(R"({"anyOf":[{"$ref":"#"},{"type":"null"}]})", "null"));
}

TEST_CASE("what holds at once is joined, or refused") {
  const std::string both = R"({"type":"object","properties":{"kind":{"type":"string"}},"required":["kind"],)"
                           R"("anyOf":[{"properties":{"kind":{"const":"a"},"x":{"type":"integer"}},"required":["x"]},)"
                           R"({"properties":{"kind":{"const":"b"}}}]})";
  CHECK(takes(both, R"({"kind":"a","x":1})"));
  CHECK(takes(both, R"({"kind":"b"})"));
  CHECK_FALSE(takes(both, R"({"kind":"a"})"));
  CHECK(takes(R"({"allOf":[{"minimum":1},{"type":["integer","null"]},{"maximum":3}]})", "2"));
  CHECK_FALSE(takes(R"({"allOf":[{"minimum":1},{"type":["integer","null"]},{"maximum":3}]})", "4"));
  CHECK(takes(R"({"$defs":{"n":{"type":"integer"}},"$ref":"#/$defs/n","minimum":5})", "5"));
  CHECK_FALSE(takes(R"({"$defs":{"n":{"type":"integer"}},"$ref":"#/$defs/n","minimum":5})", "4"));
  CHECK(refusal(R"({"allOf":[{"pattern":"a"},{"pattern":"b"}]})").find("/allOf/1/pattern") != std::string::npos);
  CHECK(refusal(R"({"properties":{"a":{}},"additionalProperties":false,"allOf":[{"properties":{"b":{}}}]})")
            .find("/allOf/0") != std::string::npos);
}

TEST_CASE("a oneOf must be told apart") {
  CHECK(takes(R"({"oneOf":[{"type":"string"},{"type":"integer"}]})", "5"));
  CHECK(takes(R"({"oneOf":[{"enum":["a","b"]},{"const":"c"}]})", "\"c\""));
  const std::string tagged =
      R"({"oneOf":[{"type":"object","properties":{"t":{"const":"x"}},"required":["t"]},)"
      R"({"type":"object","properties":{"t":{"const":"y"},"n":{"type":"integer"}},"required":["t","n"]}]})";
  CHECK(takes(tagged, R"({"t":"y","n":1})"));
  CHECK_FALSE(takes(tagged, R"({"t":"y"})"));
  for (const char* schema :
       {R"({"oneOf":[{"type":"integer"},{"type":"number"}]})",
        R"({"oneOf":[{"type":"object"},{"type":"object","required":["a"]}]})",
        R"({"oneOf":[{"enum":["a"]},{"type":"string"}]})", R"({"oneOf":[{"const":1},{"const":1.0}]})"}) {
    CHECK(refusal(schema).find("/oneOf has choices 0 and 1") != std::string::npos);
  }
}

TEST_CASE("what cannot be enforced is refused by its pointer, never passed over") {
  const auto names = [](const std::string& schema, const std::string& pointer) {
    const std::string said = refusal(schema);
    CAPTURE(schema);
    CAPTURE(said);
    CHECK(said.find("the schema's " + pointer + " ") != std::string::npos);
  };
  names(R"({"not":{}})", "/not");
  names(R"({"properties":{"a/b":{"patternProperties":{}}}})", "/properties/a~1b/patternProperties");
  names(R"({"items":{"uniqueItems":true}})", "/items/uniqueItems");
  names(R"({"if":{}})", "/if");
  names(R"({"items":[{}]})", "/items");
  names(R"({"type":"strin"})", "/type");
  names(R"({"type":"string","pattern":"\\bword"})", "/pattern");
  names(R"x({"type":"string","pattern":"a(?=b)"})x", "/pattern");
  names(R"({"type":"string","pattern":"(a)\\1"})", "/pattern");
  names(R"({"type":"string","format":"uri"})", "/format");
  names(R"({"type":"string","minLength":-1})", "/minLength");
  names(R"({"type":"string","pattern":"^(a|b){500}(c{500}){9}$"})", "/pattern");
  names(R"({"multipleOf":0.1})", "/multipleOf");
  names(R"({"minimum":"1"})", "/minimum");
  names(R"({"minimum":1e30})", "/minimum");
  names(R"({"$ref":"#/$defs/none"})", "/$ref");
  names(R"({"$ref":"https://example.org/s"})", "/$ref");
  names(R"({"enum":["a"],"minLength":1})", "/minLength");
  names(R"({"anyOf":[{}],"oneOf":[{}]})", "/oneOf");
  names(R"({"properties":{"a":{"$id":"x"}}})", "/properties/a/$id");
  names(R"({"type":"object","minProperties":2})", "/minProperties");
  names(R"({"contains":{}})", "/contains");
  names(R"({"required":"a"})", "/required");
  CHECK(refusal("[]").find("root must be an object") != std::string::npos);
  CHECK(refusal("{").find("not JSON") != std::string::npos);
  CHECK(refusal("{\"type\":\"null\",\"type\":\"null\"}").find("twice") != std::string::npos);
  CHECK(refusal("false").find("no value meets") != std::string::npos);
  CHECK(refusal(R"({"type":"integer","minimum":5,"maximum":4})").find("no value meets") != std::string::npos);
  CHECK(refusal(R"({"type":"integer","minimum":5,"maximum":6,"multipleOf":4})").find("no value meets") !=
        std::string::npos);
  std::string wide = R"({"type":"object","properties":{)";
  for (int i = 0; i < 129; ++i) wide += (i == 0 ? "\"p" : ",\"p") + std::to_string(i) + "\":{}";
  names(wide + "}}", "/properties");
  CHECK(takes(
      R"({"title":"t","description":"d","default":1,"examples":[1],"$comment":"c","type":"null","deprecated":true})",
      "null"));
}

TEST_CASE("schemas that multiply themselves are refused in time") {
  std::string doubling = R"({"$defs":{"d0":{"type":"null"})";
  for (int i = 1; i < 40; ++i) {
    const std::string before = "{\"$ref\":\"#/$defs/d" + std::to_string(i - 1) + "\",\"minLength\":1}";
    doubling += ",\"d" + std::to_string(i) + "\":{\"type\":\"array\",\"items\":" + before + ",\"prefixItems\":[" +
                before + "]}";
  }
  CHECK(refusal(doubling + R"(},"$ref":"#/$defs/d39"})").find("larger than") != std::string::npos);
  CHECK(refusal(R"({"type":"object","anyOf":[{"$ref":"#"}]})").find("the schema's") != std::string::npos);
}

}  // namespace consort::model
