#include "model/text/tokenizer.hpp"

#include <atomic>
#include <boost/json.hpp>
#include <thread>
#include <vector>

#include "model/text/byte_alphabet.hpp"
#include "support/test.hpp"
#include "tokenizer_vocabularies.hpp"

namespace consort::model {
namespace {

namespace json = boost::json;
using Ids = std::vector<std::int32_t>;

// A tokenizer.json with all 256 bytes (id = byte), three merges and three added tokens.
json::object small_file() {
  json::object vocab;
  for (int byte = 0; byte < 256; ++byte) vocab[symbols_of_bytes(std::string(1, static_cast<char>(byte)))] = byte;
  vocab["he"] = 256;
  vocab["ll"] = 257;
  vocab["hell"] = 258;
  json::object file = json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null, "normalizer": {"type": "Sequence", "normalizers": []},
    "added_tokens": [
      {"id": 300, "content": "<s>", "special": true, "normalized": false, "single_word": false, "lstrip": false, "rstrip": false},
      {"id": 301, "content": "<user>", "special": false, "normalized": true},
      {"id": 302, "content": "<user>x", "special": false, "normalized": true}],
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated", "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
    "post_processor": null,
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "merges": ["h e", "l l", "he ll"]}})")
                          .as_object();
  file["model"].as_object()["vocab"] = vocab;
  return file;
}

Tokenizer load(const json::object& file) {
  auto made = Tokenizer::from_json(json::serialize(file));
  REQUIRE_MESSAGE(made.ok(), made.error().text);
  return *made;
}

std::string refusal(const json::object& file) {
  auto made = Tokenizer::from_json(json::serialize(file));
  return made.ok() ? "not refused" : made.error().text;
}

bool says(const std::string& text, std::string_view part) {
  if (text.find(part) != std::string::npos) return true;
  MESSAGE(text);
  return false;
}

}  // namespace

TEST_CASE("merges follow their order and added tokens are found first, the longest of them") {
  const Tokenizer small = load(small_file());
  CHECK(*small.encode("hello") == Ids{258, 'o'});
  CHECK(*small.encode("hhell lo") == Ids{'h', 258, ' ', 'l', 'o'});
  CHECK(*small.encode("<s>he<user><user>xy") == Ids{300, 256, 301, 302, 'y'});
  CHECK(*small.encode("<use") == Ids{'<', 'u', 's', 'e'});
  CHECK(small.encode("")->empty());
  CHECK(small.vocab_size() == 303);
}

TEST_CASE("decode skips special tokens where asked, and ids without a token show as U+FFFD") {
  const Tokenizer small = load(small_file());
  const Ids ids{300, 258, 301, 299, -1, 1 << 20};
  CHECK(small.decode(ids, true) == "hell<user>\uFFFD\uFFFD\uFFFD");
  CHECK(small.decode(ids, false) == "<s>hell<user>\uFFFD\uFFFD\uFFFD");
}

TEST_CASE("a stream never holds half a character, however it is cut") {
  const Tokenizer small = load(small_file());
  const std::string text = "aé漢🚀";
  StreamDecoder stream(small);
  std::vector<std::string> out;
  for (char c : text) out.push_back(stream.add(static_cast<unsigned char>(c)));
  CHECK(out == std::vector<std::string>{"a", "", "é", "", "", "漢", "", "", "", "🚀"});
  CHECK(stream.finish().empty());
  CHECK(stream.add(0xE6).empty());
  CHECK(stream.finish() == "\uFFFD");
  CHECK(stream.finish().empty());
}

TEST_CASE("ill-formed bytes become one U+FFFD for each maximal part") {
  const Tokenizer small = load(small_file());
  // The examples of Unicode 15, tables 3-8 to 3-11.
  CHECK(small.decode(Ids{0xC0, 0xAF, 0xE0, 0x80, 0xBF, 0xF0, 0x81, 0x82, 0x41}) ==
        "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA");
  CHECK(small.decode(Ids{0xED, 0xA0, 0x80, 0xED, 0xBF, 0xBF, 0xED, 0xAF, 0x41}) ==
        "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA");
  CHECK(small.decode(Ids{0xF4, 0x91, 0x92, 0x93, 0xFF, 0x41, 0x80, 0xBF, 0x42}) ==
        "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA\uFFFD\uFFFDB");
  CHECK(small.decode(Ids{0xE1, 0x80, 0xE2, 0xF0, 0x91, 0x92, 0xF1, 0xBF, 0x41}) == "\uFFFD\uFFFD\uFFFD\uFFFDA");
  // An added token between the halves of a character does not join them.
  CHECK(small.decode(Ids{0xC3, 301, 0xA9}) == "\uFFFD<user>\uFFFD");
}

TEST_CASE("text that is not UTF-8 is refused with its place") {
  const Tokenizer small = load(small_file());
  CHECK(says(small.encode("ab\xFFz").error().text, "not UTF-8 at byte 2"));
}

TEST_CASE("a byte that the vocabulary lacks is refused with its place") {
  json::object file = small_file();
  file["model"].as_object()["vocab"].as_object().erase("z");
  const Tokenizer small = load(file);
  CHECK(says(small.encode("he zoo").error().text, "0x7A (offset 3"));
}

TEST_CASE("a long run of one character is merged in time") {
  json::object file = small_file();
  auto& model = file["model"].as_object();
  std::string run = "a";
  for (int id = 400; id < 416; ++id) {  // a a, aa aa, ... up to 2^16
    model["merges"].as_array().push_back(json::array{run, run});
    run += run;
    model["vocab"].as_object()[run] = id;
  }
  const Tokenizer small = load(file);
  const auto ids = *small.encode(std::string(1 << 20, 'a'));
  CHECK(ids == Ids(16, 415));
}

TEST_CASE("whole pieces are taken as they stand where ignore_merges is true") {
  json::object file = small_file();
  file["model"].as_object()["vocab"].as_object()["xyz"] = 290;
  CHECK(*load(file).encode("xyz") == Ids{'x', 'y', 'z'});
  file["model"].as_object()["ignore_merges"] = true;
  CHECK(*load(file).encode("xyz") == Ids{290});
}

TEST_CASE("use_regex true cuts as GPT-2 does, Digits cut one by one or in runs") {
  const auto pre = [](const char* stage) {
    json::object file = small_file();
    file["pre_tokenizer"] = json::parse(stage);
    // "e1" and "11" may merge only where no cut lies between.
    auto& model = file["model"].as_object();
    model["vocab"].as_object()["e1"] = 260;
    model["vocab"].as_object()["11"] = 261;
    model["merges"].as_array().push_back("e 1");
    model["merges"].as_array().push_back("1 1");
    return *load(file).encode("e111");
  };
  CHECK(pre(R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false})") == Ids{260, 261});
  CHECK(pre(R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true})") == Ids{'e', 261, '1'});
  CHECK(pre(R"({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true},
               {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})") == Ids{'e', '1', '1', '1'});
  CHECK(pre(R"({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": false},
               {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})") == Ids{'e', 261, '1'});
}

TEST_CASE("a template's special tokens stand around the text") {
  json::object file = small_file();
  file["post_processor"] = json::parse(R"({"type": "TemplateProcessing", "single": [
      {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
      "special_tokens": {}})");
  file["post_processor"].as_object()["single"].as_array()[0].as_object()["SpecialToken"].as_object().erase("type_id");
  CHECK(*load(file).encode("he") == Ids{300, 256});
  CHECK(*load(file).encode("he", {.add_special_tokens = false}) == Ids{256});
}

TEST_CASE("what the file asks for and nobody knows is refused by name") {
  const auto with = [](const char* path, const char* value) {
    json::value root = small_file();
    const std::string_view whole = path;
    const std::string_view parent = whole.substr(0, whole.rfind('/'));
    const std::string_view key = whole.substr(parent.size() + 1);
    json::value& holder = parent.empty() ? root : root.at_pointer(parent);
    (holder.is_array() ? holder.as_array().at(key[0] - std::size_t{'0'}) : holder.as_object()[key]) =
        json::parse(value);
    return refusal(root.as_object());
  };
  CHECK(says(with("/model/type", R"("Unigram")"), "model.type is \"Unigram\""));
  CHECK(says(with("/model/dropout", "0.1"), "model.dropout"));
  CHECK(says(with("/model/unk_token", R"("<s>")"), "model.unk_token"));
  CHECK(says(with("/model/byte_fallback", "true"), "model.byte_fallback is true"));
  CHECK(says(with("/model/end_of_word_suffix", R"("</w>")"), "model.end_of_word_suffix"));
  CHECK(says(with("/model/merges/1", R"("l q")"), "model.merges[1]"));
  CHECK(says(with("/model/merges/0", R"("h e l")"), "model.merges[0]"));
  CHECK(says(with("/model/vocab/he", "-1"), "model.vocab[\"he\"]"));
  CHECK(says(with("/model/vocab/he", "257"), "another token"));
  CHECK(says(with("/model/vocab/he", "2000000"), "not a token id"));
  CHECK(says(with("/added_tokens/0/lstrip", "true"), "added_tokens[0].lstrip"));
  CHECK(says(with("/added_tokens/1/id", "300"), "added_tokens[1]"));
  CHECK(says(with("/added_tokens/1/id", "256"), "which model.vocab gives to he"));
  CHECK(says(with("/added_tokens/1/content", R"("")"), "added_tokens[1].content"));
  CHECK(says(with("/normalizer", R"({"type": "NFC"})"), "normalizer.type is \"NFC\""));
  CHECK(says(with("/normalizer/normalizers", R"([{"type": "NFC"}])"), "normalizer.normalizers[0]"));
  CHECK(says(with("/pre_tokenizer/pretokenizers/0/behavior", R"("Removed")"), "pretokenizers[0].behavior"));
  CHECK(says(with("/pre_tokenizer/pretokenizers/0/invert", "true"), "pretokenizers[0].invert"));
  CHECK(says(with("/pre_tokenizer/pretokenizers/0/type", R"("Metaspace")"), "pretokenizers[0].type is \"Metaspace\""));
  CHECK(says(with("/pre_tokenizer/pretokenizers/0/pattern/Regex", R"("(a")"), "pretokenizers[0].pattern.Regex"));
  CHECK(says(with("/pre_tokenizer/pretokenizers/0/pattern/Regex", R"("\\w+")"), "the escape \\w"));
  CHECK(says(with("/pre_tokenizer/pretokenizers/1/add_prefix_space", "true"), "pretokenizers[1].add_prefix_space"));
  CHECK(says(with("/pre_tokenizer/pretokenizers/1/type", R"("Digits")"), "ByteLevel is needed as the last stage"));
  CHECK(says(with("/decoder", R"({"type": "Metaspace"})"), "decoder.type"));
  CHECK(says(with("/post_processor", R"({"type": "BertProcessing"})"), "post_processor.type"));
  CHECK(says(with("/truncation", R"({"max_length": 5})"), "truncation"));
  CHECK(says(with("/flavour", "1"), "flavour is a field that this program does not know"));
  CHECK(says(refusal({}), "model is missing"));
  CHECK(says(Tokenizer::from_json("{\"model\": ").error().text, "is not JSON"));
  CHECK(says(Tokenizer::from_json(std::string(1000, '[')).error().text, "is not JSON"));
}

TEST_CASE("a directory without tokenizer.json says what to do") {
  CHECK(says(Tokenizer::from_directory("/nonexistent/model").error().text, "has no tokenizer.json"));
}

TEST_CASE("the adder model's directory loads, encodes its prompts and decodes its answers") {
  auto adder = Tokenizer::from_directory(tests::adder_folder());
  REQUIRE_MESSAGE(adder.ok(), adder.error().text);
  CHECK(adder->bos_id() == 0);
  CHECK(adder->is_eos(1));
  CHECK(*adder->encode("1+2=?") == Ids{0, 8, 17, 9, 19, 21});
  const json::value answers = json::parse(tests::reference("adder-answers.json"));
  CHECK(answers.as_array().size() == 100);
  for (const json::value& row : answers.as_array()) {
    const auto prompt = json::value_to<Ids>(row.at("prompt_ids"));
    CHECK(*adder->encode(adder->decode(prompt, false), {.add_special_tokens = false}) == prompt);
    const std::string sum = std::to_string(row.at("a").to_number<int>() + row.at("b").to_number<int>());
    CHECK(adder->decode(json::value_to<Ids>(row.at("ids"))).ends_with("\n</think>\n\n" + sum));
  }
}

TEST_CASE("many threads may encode with one tokenizer") {
  const Tokenizer small = load(small_file());
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        const std::string text = "hello " + std::to_string(i % 50 + t);
        if (small.decode(*small.encode(text)) != text) ++wrong;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
}

}  // namespace consort::model
