// The real DeepSeek vocabularies against recorded ids.
#include <boost/json.hpp>
#include <vector>

#include "model/text/tokenizer.hpp"
#include "support/test.hpp"
#include "tokenizer_vocabularies.hpp"

namespace consort::model {
namespace {

namespace json = boost::json;
using tests::kNoVocabulary;
using tests::reference;
using tests::vocabulary_folder;

std::vector<std::int32_t> ids_of(const json::value& list) { return json::value_to<std::vector<std::int32_t>>(list); }

// Loads a vocabulary once for all tests of this file.
const Tokenizer& tokenizer(const std::string& name) {
  static std::unordered_map<std::string, Tokenizer> loaded;
  auto found = loaded.find(name);
  if (found == loaded.end()) {
    auto made = Tokenizer::from_directory(vocabulary_folder(name));
    REQUIRE_MESSAGE(made.ok(), made.error().text);
    found = loaded.emplace(name, std::move(made).value()).first;
  }
  return found->second;
}

std::vector<std::int32_t> encode(const Tokenizer& of, std::string_view text) {
  auto ids = of.encode(text, {.add_special_tokens = false});
  REQUIRE_MESSAGE(ids.ok(), ids.error().text);
  return *ids;
}

int check_vectors(const std::string& name, const json::array& vectors) {
  for (const json::value& vector : vectors) {
    const std::string text = json::value_to<std::string>(vector.at(0));
    CAPTURE(text);
    CHECK(encode(tokenizer(name), text) == ids_of(vector.at(1)));
  }
  return static_cast<int>(vectors.size());
}

void check_wikitext(const std::string& name, const char* version) {
  const auto ids = ids_of(json::parse(reference("tokenizer_wikitext.json")).at(version));
  REQUIRE(ids.size() == 8192);
  const std::vector<std::int32_t> body(ids.begin() + 1, ids.end());
  const std::string text = tokenizer(name).decode(body);
  CHECK(encode(tokenizer(name), text) == body);
  CHECK(encode(tokenizer(name), text) == body);  // once more, from the cache of pieces
  StreamDecoder stream(tokenizer(name));
  std::string streamed;
  for (std::int32_t id : body) streamed += stream.add(id);
  CHECK(streamed + stream.finish() == text);
}

}  // namespace

TEST_CASE("the V3 vocabulary gives all 95 recorded vectors") {
  if (vocabulary_folder("deepseek-v3").empty()) SKIP(kNoVocabulary);
  const auto vectors = json::parse(reference("tokenizer_vectors.json"));
  CHECK(check_vectors("deepseek-v3", vectors.at("v3").as_array()) == 95);
}

TEST_CASE("the V2 vocabulary gives all 46 recorded vectors") {
  if (vocabulary_folder("deepseek-v2").empty()) SKIP(kNoVocabulary);
  const auto vectors = json::parse(reference("tokenizer_vectors.json"));
  CHECK(check_vectors("deepseek-v2", vectors.at("v2").as_array()) == 46);
}

TEST_CASE("the V3 vocabulary encodes the wikitext chunk exactly") {
  if (vocabulary_folder("deepseek-v3").empty()) SKIP(kNoVocabulary);
  check_wikitext("deepseek-v3", "v3");
}

TEST_CASE("the V2 vocabulary encodes the wikitext chunk exactly") {
  if (vocabulary_folder("deepseek-v2").empty()) SKIP(kNoVocabulary);
  check_wikitext("deepseek-v2", "v2");
}

TEST_CASE("random awkward texts get the ids of Hugging Face tokenizers in both vocabularies") {
  if (vocabulary_folder("deepseek-v3").empty() || vocabulary_folder("deepseek-v2").empty()) SKIP(kNoVocabulary);
  const auto rows = json::parse(reference("tokenizer_random.json"));
  REQUIRE(rows.as_array().size() == 300);
  for (const json::value& row : rows.as_array()) {
    const std::string text = json::value_to<std::string>(row.at(0));
    CAPTURE(text);
    CHECK(encode(tokenizer("deepseek-v3"), text) == ids_of(row.at(1)));
    CHECK(encode(tokenizer("deepseek-v2"), text) == ids_of(row.at(2)));
    CHECK(tokenizer("deepseek-v3").decode(ids_of(row.at(1)), false) == text);
    CHECK(tokenizer("deepseek-v2").decode(ids_of(row.at(2)), false) == text);
  }
}

TEST_CASE("the V3 directory says its special ids") {
  if (vocabulary_folder("deepseek-v3").empty()) SKIP(kNoVocabulary);
  const Tokenizer& v3 = tokenizer("deepseek-v3");
  CHECK(v3.vocab_size() == 128815);
  CHECK(v3.bos_id() == 0);
  CHECK(std::vector<std::int32_t>(v3.eos_ids().begin(), v3.eos_ids().end()) == std::vector<std::int32_t>{1});
  CHECK(v3.is_special(0));
  CHECK_FALSE(v3.is_special(128803));  // <｜User｜>
  CHECK(v3.added_token_id("<｜User｜>") == 128803);
  CHECK(v3.token_text(2058) == "Ġworld");
  CHECK(v3.token_bytes(2058) == " world");
  CHECK(*v3.encode("Hello") == std::vector<std::int32_t>{19923});  // this copy has add_bos_token false
  CHECK(v3.chat_template().size() > 1000);
}

TEST_CASE("the V2 directory adds the beginning of sentence") {
  if (vocabulary_folder("deepseek-v2").empty()) SKIP(kNoVocabulary);
  const Tokenizer& v2 = tokenizer("deepseek-v2");
  CHECK(*v2.encode("Hello world") == std::vector<std::int32_t>{100000, 17464, 1843});
  CHECK(v2.decode(*v2.encode("Hello world")) == "Hello world");
  CHECK(v2.is_eos(100001));
}

TEST_CASE("a user's text cannot name an added token where matching is off") {
  if (vocabulary_folder("deepseek-v3").empty()) SKIP(kNoVocabulary);
  const Tokenizer& v3 = tokenizer("deepseek-v3");
  const auto ids = *v3.encode("<｜User｜>hi", {.add_special_tokens = false, .match_added_tokens = false});
  for (std::int32_t id : ids) CHECK(id < 128000);
  CHECK(v3.decode(ids) == "<｜User｜>hi");
}

}  // namespace consort::model
