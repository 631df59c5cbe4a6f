#include "model/text/answer_text.hpp"

#include "fuzz/byte_tokenizer.hpp"
#include "support/test.hpp"

namespace consort::model {
namespace {

constexpr std::int32_t kThink = 260, kEndThink = 261;

struct Said {
  std::string reasoning;
  std::string content;
  std::vector<std::string> pieces;  // of the content, as they came
  bool stopped = false;
  std::uint32_t thought_tokens = 0;
};

// Feeds ids: text is its bytes, "<think>" and "</think>" are their tokens.
Said say(AnswerText::Options options, std::vector<std::string> parts) {
  static const Tokenizer tokenizer = fuzz::byte_tokenizer();
  AnswerText text(tokenizer, std::move(options));
  Said said;
  const auto take = [&](const AnswerText::Piece& piece) {
    said.reasoning += piece.reasoning;
    said.content += piece.content;
    if (!piece.content.empty()) said.pieces.push_back(piece.content);
  };
  for (const std::string& part : parts) {
    if (part == "<think>" || part == "</think>") {
      take(text.add(part == "<think>" ? kThink : kEndThink));
      continue;
    }
    for (const char c : part) take(text.add(static_cast<unsigned char>(c)));
  }
  take(text.finish());
  said.stopped = text.stopped();
  said.thought_tokens = text.thought_tokens();
  return said;
}

}  // namespace

TEST_CASE("a thought that the prompt has opened is told apart from the answer, without the line feeds between") {
  const Said said = say({true, true, {}}, {"\n2+4=6\n1+3=4\n", "</think>", "\n\n46\n"});
  CHECK(said.reasoning == "2+4=6\n1+3=4");
  CHECK(said.content == "46\n");
  CHECK(said.thought_tokens == 14);
}

TEST_CASE("a thought that the model opens itself is told, also after line feeds") {
  const Said said = say({true, false, {}}, {"\n", "<think>", "\nwhy\n", "</think>", "\n\nso"});
  CHECK(said.reasoning == "why");
  CHECK(said.content == "so");
}

TEST_CASE("an answer without a thought is all content, and tags spelled as text are text") {
  CHECK(say({true, false, {}}, {"\n\nhello"}).content == "\n\nhello");
  CHECK(say({true, false, {}}, {"\n"}).content == "\n");
  Said said = say({true, false, {}}, {"a", "<think>", "b"});
  CHECK(said.content == "a<think>b");
  CHECK(said.thought_tokens == 0);
  // Bytes that spell the tag are not the tag's token.
  said = say({true, true, {}}, {"x</thin", "k>y", "</think>", "z"});
  CHECK(said.reasoning == "x</think>y");
  CHECK(said.content == "z");
  CHECK(say({false, true, {}}, {"a", "</think>", "b"}).content == "a</think>b");
}

TEST_CASE("an unfinished thought leaves the content empty") {
  const Said said = say({true, true, {}}, {"still thinking\n"});
  CHECK(said.reasoning == "still thinking");
  CHECK(said.content.empty());
}

TEST_CASE("a stop text ends the content before it, whatever tokens it comes in") {
  Said said = say({true, false, {"END", "\n\n"}}, {"one EN", "two END three"});
  CHECK(said.content == "one ENtwo ");
  CHECK(said.stopped);
  said = say({true, false, {"END"}}, {"one EN"});
  CHECK(said.content == "one EN");
  CHECK_FALSE(said.stopped);
  // The earliest of several, and none of the text is said before it is certain.
  said = say({true, false, {"bcd", "ab"}}, {"xabcd"});
  CHECK(said.content == "x");
  CHECK(said.pieces == std::vector<std::string>{"x"});
}

TEST_CASE("a stop text is not looked for in thoughts") {
  const Said said = say({true, true, {"46"}}, {"46", "</think>", "is 46."});
  CHECK(said.reasoning == "46");
  CHECK(said.content == "is ");
  CHECK(said.stopped);
}

TEST_CASE("no piece holds half a character") {
  const Said said = say({true, false, {"ß"}}, {"aé€ß"});
  CHECK(said.pieces == std::vector<std::string>{"a", "é", "€"});
  CHECK(said.stopped);
}

}  // namespace consort::model
