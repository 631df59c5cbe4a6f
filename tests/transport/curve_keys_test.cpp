// SPDX-License-Identifier: Apache-2.0
#include "transport/curve_keys.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "support/test.hpp"

namespace consort::tests {
namespace {

using namespace transport;
namespace fs = std::filesystem;

struct TemporaryFolder {
  fs::path path;
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "consort-keys-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path = pattern;
  }
  ~TemporaryFolder() { fs::remove_all(path); }
};

TEST_CASE("a key file is private, comes back equal and is never written over") {
  const TemporaryFolder folder;
  const auto path = (folder.path / "node.key").string();
  const auto keys = make_curve_keys();
  REQUIRE(write_key_file(path, keys).ok());
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  const auto back = read_key_file(path);
  REQUIRE(back.ok());
  CHECK(back->public_key == keys.public_key);
  CHECK(back->secret_key == keys.secret_key);
  CHECK(!write_key_file(path, make_curve_keys()).ok());
  CHECK(read_key_file(path)->public_key == keys.public_key);
}

TEST_CASE("a key file that others may read, or that is a link, is refused") {
  const TemporaryFolder folder;
  const auto path = (folder.path / "node.key").string();
  REQUIRE(write_key_file(path, make_curve_keys()).ok());
  const auto link = (folder.path / "link.key").string();
  fs::create_symlink(path, link);
  CHECK(!read_key_file(link).ok());
  CHECK(!write_key_file(link, make_curve_keys()).ok());
  REQUIRE(::chmod(path.c_str(), 0640) == 0);
  const auto open_to_group = read_key_file(path);
  REQUIRE(!open_to_group.ok());
  CHECK(open_to_group.error().text.find("chmod 600") != std::string::npos);
  CHECK(!read_key_file((folder.path / "none").string()).ok());
  CHECK(!read_key_file(folder.path.string()).ok());
}

TEST_CASE("keys that do not belong together, or are none, are refused without being shown") {
  const auto one = make_curve_keys();
  const auto other = make_curve_keys();
  CHECK(parse_keys("public " + one.public_key + "\nsecret " + one.secret_key + "\n").ok());
  CHECK(parse_keys("# made by hand\r\n\nsecret " + one.secret_key + "\r\npublic " + one.public_key).ok());
  CHECK(!parse_keys("public " + one.public_key + "\nsecret " + other.secret_key + "\n").ok());
  CHECK(!parse_keys("public " + one.public_key + "\n").ok());
  CHECK(!parse_keys("secret " + one.secret_key + "\nsecret " + one.secret_key + "\n").ok());
  CHECK(!parse_keys("").ok());
  const auto damaged = parse_keys("secret " + one.secret_key.substr(1) + "\n");
  REQUIRE(!damaged.ok());
  CHECK(damaged.error().text.find("line 1") != std::string::npos);
  CHECK(damaged.error().text.find(one.secret_key.substr(1)) == std::string::npos);
}

TEST_CASE("Z85 text is checked before it is decoded") {
  CHECK(is_key_text(make_curve_keys().public_key));
  CHECK(!is_key_text(""));
  CHECK(!is_key_text(std::string(39, '0')));
  CHECK(!is_key_text(std::string(41, '0')));
  CHECK(!is_key_text(std::string(40, '"')));
  CHECK(!is_key_text(std::string(40, '\xFF')));
  CHECK(!is_key_text(std::string(40, '\0')));
  CHECK(!is_key_text(std::string(40, '#')));  // "#####" is beyond 32 bits
}

TEST_CASE("an allow-list comes back equal") {
  const TemporaryFolder folder;
  const auto path = (folder.path / "allowed").string();
  const std::vector<AllowedKey> list = {{"desk", KeyRole::kNode, runtime::NodeId(1), make_curve_keys().public_key},
                                        {"attic.2", KeyRole::kNode, runtime::NodeId(77), make_curve_keys().public_key},
                                        {"me", KeyRole::kOperator, runtime::NodeId(0), make_curve_keys().public_key}};
  REQUIRE(write_allow_list(path, list).ok());
  REQUIRE(write_allow_list(path, list).ok());  // it may be replaced
  const auto back = read_allow_list(path);
  REQUIRE(back.ok());
  REQUIRE(back->size() == list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    CHECK((*back)[i].name == list[i].name);
    CHECK((*back)[i].role == list[i].role);
    CHECK((*back)[i].node == list[i].node);
    CHECK((*back)[i].public_key == list[i].public_key);
  }
}

TEST_CASE("a wrong allow-list is refused with its line") {
  const auto key = make_curve_keys().public_key;
  const auto other = make_curve_keys().public_key;
  const auto refused = [](const std::string& text, const char* line) {
    const auto list = parse_allow_list(text);
    return !list.ok() && list.error().text.starts_with(line);
  };
  CHECK(refused("node desk 0 " + key, "line 1"));
  CHECK(refused("node desk 4026531840 " + key, "line 1"));  // 0xF0000000 is a client's
  CHECK(refused("node desk 1x " + key, "line 1"));
  CHECK(refused("node desk -1 " + key, "line 1"));
  CHECK(refused("node Desk 1 " + key, "line 1"));
  CHECK(refused("node desk 1", "line 1"));
  CHECK(refused("guest desk " + key, "line 1"));
  CHECK(refused("operator me " + key + " more", "line 1"));
  CHECK(refused("# fine\nnode a 1 " + key + "\nnode b 2 " + key, "line 3"));
  CHECK(refused("node a 1 " + key + "\nnode a 2 " + other, "line 2"));
  CHECK(refused("node a 1 " + key + "\nnode b 1 " + other, "line 2"));
  CHECK(parse_allow_list("").ok());
}

}  // namespace
}  // namespace consort::tests
