#include "support/test.hpp"

#include <cstring>
#include <random>

#include "model/safetensors.hpp"
#include "support/formula_checkpoint.hpp"

using namespace consort;
using namespace consort::model;

namespace {

std::vector<std::byte> file_of(const std::string& header, std::size_t data_bytes) {
  std::vector<std::byte> bytes(8 + header.size() + data_bytes);
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<std::byte>(header.size() >> (8 * i));
  std::memcpy(bytes.data() + 8, header.data(), header.size());
  return bytes;
}

runtime::Outcome<SafetensorsHeader> parse(const std::string& header, std::size_t data_bytes) {
  const auto bytes = file_of(header, data_bytes);
  return parse_safetensors_header(bytes, bytes.size(), "f");
}

void refused(const std::string& header, std::size_t data_bytes, const std::string& word) {
  const auto parsed = parse(header, data_bytes);
  CAPTURE(header);
  REQUIRE_FALSE(parsed.ok());
  CHECK_MESSAGE(parsed.error().text.find(word) != std::string::npos, parsed.error().text);
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\": {\"dtype\": \"" + dtype + "\", \"shape\": " + shape + ", \"data_offsets\": " + offsets +
         "}";
}

}  // namespace

TEST_CASE("safetensors headers are read in the order of their data") {
  const auto parsed =
      parse("{\"__metadata__\": {\"format\": \"pt\"}, " + entry("b", "F32", "[1]", "[6, 10]") + ", " +
                entry("a", "BF16", "[3, 1]", "[0, 6]") + ", " + entry("e", "F32", "[0]", "[6, 6]") + "}   ",
            10);
  REQUIRE_MESSAGE(parsed.ok(), (parsed.ok() ? "" : parsed.error().text));
  const SafetensorsHeader& header = parsed.value();
  REQUIRE(header.tensors.size() == 3);
  CHECK(header.tensors[0].name == "a");
  CHECK(header.tensors[1].name == "e");
  CHECK(header.tensors[2].name == "b");
  CHECK(header.tensors[0].shape == std::vector<std::int64_t>{3, 1});
  CHECK(header.tensors[0].dtype == runtime::Dtype::kBf16);
  CHECK(header.metadata.at("format") == "pt");
  CHECK(parse("{}", 0).ok());
}

TEST_CASE("safetensors headers that lie are refused by the tensor's name") {
  refused("{" + entry("w", "F32", "[2]", "[0, 4]") + "}", 4, "'w' takes 4 bytes");
  refused("{" + entry("w", "F32", "[1]", "[0, 8]") + "}", 8, "'w' takes 8 bytes");
  refused("{" + entry("w", "F32", "[2]", "[0, 8]") + "}", 4, "'w' lies at");
  refused("{" + entry("w", "F32", "[1]", "[8, 4]") + "}", 8, "'w' lies at");
  refused("{" + entry("w", "F32", "[1]", "[-4, 0]") + "}", 8, "'w' has data_offsets");
  refused("{" + entry("w", "F32", "[1]", "[0, 4.5]") + "}", 8, "'w' has data_offsets");
  refused("{" + entry("w", "F32", "[1]", "[0, 18446744073709551615]") + "}", 8, "'w' lies at");
  refused("{" + entry("w", "F32", "[1]", "[0, 99999999999999999999]") + "}", 8, "'w'");
  refused("{" + entry("w", "F32", "[4294967296, 4294967296]", "[0, 0]") + "}", 0,
          "'w' has a shape whose size overflows");
  refused("{" + entry("w", "F32", "[4611686018427387904]", "[0, 0]") + "}", 0, "'w' has a shape whose size overflows");
  refused("{" + entry("w", "F32", "[-1]", "[0, 4]") + "}", 4, "'w' has the dimension -1");
  refused("{" + entry("w", "F64", "[1]", "[0, 8]") + "}", 8, "'w' has dtype \"F64\"");
  refused("{" + entry("w", "F32", "[1,1,1,1,1,1,1,1,1]", "[0, 4]") + "}", 4, "'w' has too many dimensions");
  refused("{\"w\": {\"dtype\": \"F32\", \"shape\": [1]}}", 4, "'w' lacks");
  refused("{\"w\": 1}", 4, "'w' is not described");
  refused("{\"w\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4], \"more\": 1}}", 4,
          "'w' has a key other");
}

TEST_CASE("safetensors data must be covered once: no overlap, no gap, nothing behind") {
  refused("{" + entry("a", "F32", "[2]", "[0, 8]") + ", " + entry("b", "F32", "[2]", "[4, 12]") + "}", 12,
          "'b' begins at byte 4, inside");
  refused("{" + entry("a", "F32", "[2]", "[0, 8]") + ", " + entry("b", "F32", "[2]", "[0, 8]") + "}", 8,
          "'b' begins at byte 0, inside");
  refused("{" + entry("a", "F32", "[1]", "[0, 4]") + ", " + entry("b", "F32", "[1]", "[8, 12]") + "}", 12,
          "'b' begins at byte 8, after a gap");
  refused("{" + entry("a", "F32", "[1]", "[4, 8]") + "}", 8, "'a' begins at byte 4");
  refused("{" + entry("a", "F32", "[1]", "[0, 4]") + "}", 5, "1 bytes at the end");
}

TEST_CASE("safetensors headers that are no headers are refused") {
  refused("{" + entry("w", "F32", "[1]", "[0, 4]") + ", " + entry("w", "F32", "[1]", "[4, 8]") + "}", 8,
          "'w' appears twice");
  refused("[]", 0, "not a JSON object");
  refused("{", 0, "not JSON");
  refused("{\"__metadata__\": {\"a\": 1}}", 0, "__metadata__");
  refused("{} x", 0, "text after");
  std::vector<std::byte> bytes(8);
  CHECK_FALSE(parse_safetensors_header(std::span(bytes).first(7), 7, "f").ok());
  bytes[0] = std::byte{1};
  CHECK(parse_safetensors_header(bytes, 8, "f").error().text.find("the file ends before") != std::string::npos);
  bytes[7] = std::byte{0xff};
  CHECK(parse_safetensors_header(bytes, 8, "f").error().text.find("at most 100000000") != std::string::npos);
}

TEST_CASE("safetensors headers with any one byte changed never crash the reader") {
  const std::string header =
      "{" + entry("a", "BF16", "[3, 1]", "[0, 6]") + ", " + entry("b", "F32", "[1]", "[6, 10]") + "}";
  const auto good = file_of(header, 10);
  std::mt19937 random(1);
  int accepted = 0;
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (int i = 0; i < 20; ++i) {
      auto bytes = good;
      bytes[at] = static_cast<std::byte>(random());
      accepted += parse_safetensors_header(bytes, bytes.size(), "f").ok() ? 1 : 0;
    }
  }
  for (std::size_t bytes = 0; bytes < good.size(); ++bytes)
    CHECK_FALSE(parse_safetensors_header(std::span(good).first(bytes), bytes, "f").ok());
  CHECK(accepted > 0);  // a changed name or data byte is no lie
}

TEST_CASE("safetensors files read back as they were written, and count the bytes") {
  tests::TemporaryDirectory directory;
  const auto path = directory.path() / "t.safetensors";
  const std::vector<float> wide{1, 2, 3, 4, 5, 6};
  const std::vector<std::int64_t> ids{7, -8};
  const auto f32 =
      runtime::ConstTensorView(reinterpret_cast<const std::byte*>(wide.data()), runtime::Dtype::kF32, {2, 3});
  const NamedTensor tensors[] = {
      {"ids", runtime::ConstTensorView(reinterpret_cast<const std::byte*>(ids.data()), runtime::Dtype::kI64, {2})},
      {"left \"column\"", f32.slice_cols(0, 2)}};
  REQUIRE(write_safetensors(path, tensors, {{"made", "here"}}).ok());
  auto counter = std::make_shared<ReadCounter>();
  auto file = SafetensorsFile::open(path, counter);
  REQUIRE_MESSAGE(file.ok(), (file.ok() ? "" : file.error().text));
  CHECK(file.value()->metadata().at("made") == "here");
  const TensorEntry* entry = file.value()->find("left \"column\"");
  REQUIRE(entry != nullptr);
  CHECK(entry->shape == std::vector<std::int64_t>{2, 2});
  std::vector<float> back(4);
  REQUIRE(file.value()->read(*entry, 0, std::as_writable_bytes(std::span(back))).ok());
  CHECK(back == std::vector<float>{1, 2, 4, 5});
  REQUIRE(file.value()->read(*entry, 8, std::as_writable_bytes(std::span(back).first(1))).ok());
  CHECK(back[0] == 4);
  CHECK(counter->data_bytes == 20);
  CHECK(file.value()->find("nobody") == nullptr);
  CHECK_FALSE(SafetensorsFile::open(directory.path() / "absent", counter).ok());
  CHECK_FALSE(write_safetensors(directory.path() / "no/such/place", tensors).ok());
  CHECK(std::distance(std::filesystem::directory_iterator(directory.path()), {}) == 1);  // nothing unfinished is left
}
