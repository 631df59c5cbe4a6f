// API keys: the file, the ring that a service looks them up in, and their limits.
#include "cli/http/api_keys.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "support/test.hpp"

using namespace consort;
using namespace consort::cli;

namespace {

ApiKey key_of(const std::string& name, const std::string& key, KeyLimits limits = {}) {
  return {name, hash_of_api_key(key), 1, limits};
}

std::string name_of(const ApiKey* key) { return key == nullptr ? "nobody" : key->name; }

}  // namespace

TEST_CASE("API keys are random, kept as hashes, and found again; a revoked one is not") {
  char folder[] = "/tmp/consort-keys-XXXXXX";
  REQUIRE(::mkdtemp(folder) != nullptr);
  const std::string path = std::string(folder) + "/api-keys";
  const auto write = [&](const std::vector<ApiKey>& keys) {
    std::ofstream(path + ".new") << format_api_keys(keys);
    ::chmod((path + ".new").c_str(), 0600);
    REQUIRE(::rename((path + ".new").c_str(), path.c_str()) == 0);
  };
  ApiKeyRing ring(path);
  CHECK_FALSE(ring.needs_key());
  const std::string ann = make_api_key(), bob = make_api_key();
  CHECK(ann != bob);
  CHECK(ann.size() == 11 + 43);
  write({key_of("ann", ann), key_of("bob", bob, {.concurrent = 3})});
  CHECK(ring.needs_key());
  CHECK(name_of(ring.find(bob)) == "bob");
  CHECK(ring.find(bob)->limits.concurrent == 3);
  CHECK(ring.find(bob + "x") == nullptr);
  CHECK(ring.find("") == nullptr);
  std::ifstream file(path);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  CHECK(text.find(ann) == std::string::npos);
  write({key_of("ann", ann)});
  CHECK(ring.find(bob) == nullptr);
  CHECK(name_of(ring.find(ann)) == "ann");
  write({});
  CHECK(ring.needs_key());
  CHECK(ring.find(ann) == nullptr);
  write({key_of("ann", ann)});
  ::chmod(path.c_str(), 0644);
  CHECK_FALSE(read_api_keys(path).ok());
  ::unlink(path.c_str());
  ::rmdir(folder);
}

TEST_CASE("limits go through the keys file, and files of the first version are read") {
  const std::vector<ApiKey> keys{key_of("ann", "1", {60, 100'000, 4, kMaxKeyLimit}), key_of("bob", "2", {0, 0, 1, 0}),
                                 key_of("eve", "3")};
  const std::string text = format_api_keys(keys);
  const auto again = parse_api_keys(text, "keys");
  REQUIRE(again.ok());
  REQUIRE(again->size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK((*again)[i].name == keys[i].name);
    CHECK((*again)[i].hash == keys[i].hash);
    CHECK((*again)[i].limits == keys[i].limits);
  }
  const std::string old = "ann " + std::string(64, 'a') + " 7\n";
  const auto first = parse_api_keys(old, "keys");
  REQUIRE(first.ok());
  CHECK((*first)[0].created == 7);
  CHECK((*first)[0].limits == KeyLimits{});
}

TEST_CASE("a keys file that is not one is refused with its line") {
  const std::string hash(64, 'a');
  const std::string two = "consort-api-keys 2\n";
  for (const std::string& bad :
       {std::string("ann"), std::string("ann 00 1"), std::string("ann zz 1\n"), "Ann " + hash + " 1",
        "ann " + hash + " 1 concurrent=1\n", two + "ann " + hash + " 1 concurrent=0\n",
        two + "ann " + hash + " 1 concurrent=1 concurrent=2\n", two + "ann " + hash + " 1 colour=1\n",
        two + "ann " + hash + " 1 concurrent=99999999999999999999\n", "ann " + hash + " 1\n" + two,
        std::string("consort-api-keys 3\n"), two + "a " + hash + " 1\na " + hash + " 1\n"}) {
    const auto parsed = parse_api_keys(bad, "keys");
    CHECK_MESSAGE(!parsed.ok(), bad);
    if (!parsed.ok()) CHECK(parsed.error().text.starts_with("keys:"));
  }
}
