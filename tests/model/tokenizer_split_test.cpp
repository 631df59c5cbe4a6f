// The pre-tokenizer's pieces, and what becomes of Oniguruma's syntax.
#include <string>
#include <vector>

#include "model/text/pre_tokenizer.hpp"
#include "model/text/regex_syntax.hpp"
#include "support/test.hpp"

namespace consort::model {
namespace {

using Pieces = std::vector<std::string>;

const std::vector<SplitRule> kV3 = {
    {"1", R"(\p{N}{1,3})", false},
    {"2", "[一-龥\u3040-ゟ゠-ヿ]+", false},
    {"3",
     R"re([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re",
     false}};

Pieces split(const std::vector<SplitRule>& rules, std::string_view text) {
  auto pre = PreTokenizer::build(rules);
  REQUIRE_MESSAGE(pre.ok(), pre.error().text);
  PreTokenizer::Scratch scratch;
  std::vector<std::string_view> pieces;
  auto status = pre->split(text, pieces, scratch);
  REQUIRE_MESSAGE(status.ok(), status.error().text);
  return Pieces(pieces.begin(), pieces.end());
}

Pieces split(std::string_view pattern, std::string_view text) {
  return split({{"x", std::string(pattern), false}}, text);
}

std::string refusal(std::string_view pattern) {
  auto rewritten = pcre2_pattern(pattern);
  return rewritten.ok() ? "not refused: " + *rewritten : rewritten.error().text;
}

}  // namespace

TEST_CASE("V3's stages give the recorded pieces") {
  CHECK(split(kV3, "Hello, y'all! How are you 😁 ?我想在apple工作1314151天～") ==
        Pieces{"Hello", ",", " y", "'all", "!", " How", " are", " you", " 😁", " ?", "我想在", "apple", "工作", "131",
               "415", "1", "天", "～"});
  CHECK(split(kV3, "foo_bar(x)+=1;\n\n  y") == Pieces{"foo", "_bar", "(x", ")+=", "1", ";\n\n", " ", " y"});
  CHECK(split(kV3, "a 1") == Pieces{"a", " ", "1"});
  CHECK(split(kV3, "").empty());
}

TEST_CASE("a stage sees no further than its piece") {
  CHECK(split({{"1", R"([\r\n])", false}, {"2", R"(\s+$)", false}}, "a  \nb ") == Pieces{"a", "  ", "\n", "b", " "});
}

TEST_CASE("dollar and caret mean lines, as in Ruby") {
  CHECK(split(R"(\s+$)", "a \nb c ") == Pieces{"a", " ", "\nb c", " "});
  CHECK(split(R"(^b)", "a\nbb") == Pieces{"a\n", "b", "b"});
}

TEST_CASE("spaces are Unicode's White_Space and no more") {
  CHECK(split(R"(\s+)", "a\u0085\u00a0\u2028\u3000b") == Pieces{"a", "\u0085\u00a0\u2028\u3000", "b"});
  CHECK(split(R"(\s+)", "a\u180e\u200b\ufeffb") == Pieces{"a\u180e\u200b\ufeffb"});
  CHECK(split(R"(\S+)", " \u180e\u2028x") == Pieces{" ", "\u180e", "\u2028", "x"});
  CHECK(split(R"([^\s\p{L}]+)", "a\u180e b1") == Pieces{"a", "\u180e", " b", "1"});
  CHECK(split(R"([\Sx]+)", "a b") == Pieces{"a", " ", "b"});
}

TEST_CASE("a literal pattern is no expression") {
  CHECK(split({{"x", "a.", true}}, "aba.a") == Pieces{"ab", "a.", "a"});
}

TEST_CASE("an expression that matches nothing at all cuts nothing") {
  CHECK(split("x*", "aé漢x") == Pieces{"aé漢", "x"});
  CHECK(split("", "aé") == Pieces{"aé"});
}

TEST_CASE("alternatives are ordered, not longest") { CHECK(split("a|ab", "abab") == Pieces{"a", "b", "a", "b"}); }

TEST_CASE("a long run of spaces is split within the limits") {
  const std::string text(200'000, ' ');
  CHECK(split(kV3, text + "x") == Pieces{text.substr(1), " x"});
  CHECK(split(kV3, text) == Pieces{text});
}

TEST_CASE("a pattern that explodes is given up in words") {
  auto pre = PreTokenizer::build({{"pre_tokenizer.pretokenizers[0]", "(?:a+)+[bc]", false}});
  REQUIRE(pre.ok());
  PreTokenizer::Scratch scratch;
  std::vector<std::string_view> pieces;
  const auto status = pre->split(std::string(64, 'a'), pieces, scratch);
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().kind == runtime::ErrorKind::kExhausted);
  CHECK(status.error().text.starts_with("pre_tokenizer.pretokenizers[0]: "));
}

TEST_CASE("what Oniguruma and PCRE2 read differently is refused by name") {
  for (const char* pattern : {R"(\w)", R"(\b)", R"(\h)", R"(\1)", R"(\G)", R"(\K)", R"(\R)", R"(\X)", R"(\xE9)"}) {
    CAPTURE(pattern);
    CHECK(refusal(pattern).starts_with("the pattern has "));
  }
  CHECK(refusal(R"(\p{Han})").find("the property Han") != std::string::npos);
  CHECK(refusal(R"([\p{L}&&[^a]])").find("inside a character class") != std::string::npos);
  CHECK(refusal("[[:alpha:]]").find("[ inside") != std::string::npos);
  CHECK(refusal("[]a]").find("opens a character class") != std::string::npos);
  CHECK(refusal("[a").find("without its ]") != std::string::npos);
  CHECK(refusal(R"([a-\s])").find("ends with a set") != std::string::npos);
  CHECK(refusal(R"([\s-a])").find("starts with a set") != std::string::npos);
  CHECK(refusal("(?m:a)").find("a group") != std::string::npos);
  CHECK(refusal("(*UTF)a").find("(*") != std::string::npos);
  CHECK(refusal("a{1,3}+").find("+ behind {}") != std::string::npos);
  CHECK(refusal("a{,3}").find("a {") != std::string::npos);
  CHECK(refusal("a\\").find("the escape") != std::string::npos);
  CHECK(*pcre2_pattern(R"(\u00e9\x41\v[\]\-a-]\{)") == R"(\x{00e9}\x{41}\x{B}[\]\-a-]\{)");
}

}  // namespace consort::model
