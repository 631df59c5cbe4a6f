// SPDX-License-Identifier: Apache-2.0
#include "transport/curve_keys.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

namespace consort::transport {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

namespace {

constexpr std::size_t kMaxFileBytes = 1u << 20;  // thousands of keys
constexpr std::size_t kMaxNameBytes = 64;

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

runtime::Error trouble(const std::string& what, const std::string& path) {
  return failure(ErrorKind::kInvalid, what + ' ' + path + ": " + std::strerror(errno));
}

Status write_new(const std::string& path, std::string_view text) {
  const File file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (file.fd() < 0) return trouble("cannot create", path);
  while (!text.empty()) {
    const auto n = ::write(file.fd(), text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return trouble("cannot write", path);
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  if (::fsync(file.fd()) != 0) return trouble("cannot sync", path);
  return runtime::done();
}

Outcome<std::string> read_private(const std::string& path) {
  const File file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (file.fd() < 0) return trouble("cannot open", path);
  struct stat status {};
  if (::fstat(file.fd(), &status) != 0) return trouble("cannot examine", path);
  if (!S_ISREG(status.st_mode)) return failure(ErrorKind::kInvalid, path + " is not a plain file");
  if ((status.st_mode & 077) != 0) {
    return failure(ErrorKind::kInvalid, path + " may be read or written by others; run: chmod 600 " + path);
  }
  if (status.st_size > static_cast<off_t>(kMaxFileBytes)) return failure(ErrorKind::kInvalid, path + " is too large");
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t got = 0;
  while (got < text.size()) {
    const auto n = ::read(file.fd(), text.data() + got, text.size() - got);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return trouble("cannot read", path);
    if (n == 0) break;
    got += static_cast<std::size_t>(n);
  }
  text.resize(got);
  return text;
}

// The words of one line; a comment or an empty line has none. More than `Max` words are a mistake, kept as the last.
std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  if (line.starts_with("# ") || line == "#") return words;
  std::size_t at = 0;
  while (at < line.size() && words.size() < 6) {
    const auto begin = line.find_first_not_of(" \t\r", at);
    if (begin == std::string_view::npos) break;
    const auto end = std::min(line.find_first_of(" \t\r", begin), line.size());
    words.push_back(line.substr(begin, end - begin));
    at = end;
  }
  return words;
}

// Calls body(words, line number) for each line that says something, until it returns an error.
template <class Body>
std::optional<runtime::Error> for_each_line(std::string_view text, Body body) {
  int number = 0;
  while (!text.empty()) {
    ++number;
    const auto end = std::min(text.find('\n'), text.size());
    const auto words = words_of(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (words.empty()) continue;
    if (std::optional<std::string> wrong = body(words)) {
      return failure(ErrorKind::kInvalid, "line " + std::to_string(number) + ": " + *wrong);
    }
  }
  return std::nullopt;
}

bool is_name(std::string_view text) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
  };
  return !text.empty() && text.size() <= kMaxNameBytes && std::all_of(text.begin(), text.end(), fits);
}

}  // namespace

bool is_key_text(std::string_view text) {
  if (text.size() != kKeyTextBytes) return false;
  std::array<char, kKeyTextBytes + 1> copy{};
  std::copy(text.begin(), text.end(), copy.begin());
  if (std::strlen(copy.data()) != kKeyTextBytes) return false;
  // libzmq reads its table with any character: the alphabet is checked first.
  constexpr std::string_view kAlphabet =
      "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
  if (text.find_first_not_of(kAlphabet) != std::string_view::npos) return false;
  std::array<std::uint8_t, 32> bytes{};
  return zmq_z85_decode(bytes.data(), copy.data()) != nullptr;
}

CurveKeys make_curve_keys() {
  std::array<char, kKeyTextBytes + 1> public_key{};
  std::array<char, kKeyTextBytes + 1> secret_key{};
  CONSORT_CHECK(zmq_curve_keypair(public_key.data(), secret_key.data()) == 0, "libzmq was built without CURVE");
  return {public_key.data(), secret_key.data()};
}

Outcome<CurveKeys> parse_keys(std::string_view text) {
  CurveKeys keys;
  const auto error = for_each_line(text, [&](const auto& words) -> std::optional<std::string> {
    if (words.size() != 2) return "expected \"public <key>\" or \"secret <key>\"";
    if (!is_key_text(words[1])) return "a key has 40 characters of Z85";  // the text itself may be a secret
    std::string* place = words[0] == "public" ? &keys.public_key : words[0] == "secret" ? &keys.secret_key : nullptr;
    if (place == nullptr) return "expected \"public <key>\" or \"secret <key>\"";
    if (!place->empty()) return "this key was given before";
    *place = std::string(words[1]);
    return std::nullopt;
  });
  if (error) return *error;
  if (keys.public_key.empty() || keys.secret_key.empty())
    return failure(ErrorKind::kInvalid, "a key file holds a public and a secret key");
  std::array<char, kKeyTextBytes + 1> derived{};
  if (zmq_curve_public(derived.data(), keys.secret_key.c_str()) != 0 || keys.public_key != derived.data()) {
    return failure(ErrorKind::kInvalid, "the public key does not belong to the secret key");
  }
  return keys;
}

Status write_key_file(const std::string& path, const CurveKeys& keys) {
  return write_new(path, "# Consort: CURVE keys. Keep the secret.\npublic " + keys.public_key + "\nsecret " +
                             keys.secret_key + '\n');
}

Outcome<CurveKeys> read_key_file(const std::string& path) {
  CONSORT_TRY(const auto text, read_private(path));
  auto keys = parse_keys(text);
  if (!keys.ok()) return failure(ErrorKind::kInvalid, path + ": " + keys.error().text);
  return keys;
}

Outcome<std::vector<AllowedKey>> parse_allow_list(std::string_view text) {
  std::vector<AllowedKey> keys;
  const auto error = for_each_line(text, [&](const auto& words) -> std::optional<std::string> {
    AllowedKey key;
    if (words[0] == "node" && words.size() == 4) {
      const auto id = words[2];
      const auto [end, wrong] = std::from_chars(id.data(), id.data() + id.size(), key.node.value);
      if (wrong != std::errc() || end != id.data() + id.size() || key.node.value == 0 ||
          key.node.value >= kFirstClientNode) {
        return "a node's id is a number from 1 to " + std::to_string(kFirstClientNode - 1);
      }
    } else if (words[0] == "operator" && words.size() == 3) {
      key.role = KeyRole::kOperator;
    } else {
      return "expected \"node <name> <id> <public key>\" or \"operator <name> <public key>\"";
    }
    key.name = std::string(words[1]);
    key.public_key = std::string(words.back());
    if (!is_name(key.name)) return "a name has 1 to 64 of a-z, 0-9, '.', '_' and '-'";
    if (!is_key_text(key.public_key)) return "a key has 40 characters of Z85";
    for (const auto& other : keys) {
      if (other.name == key.name) return "the name " + key.name + " was given before";
      if (other.public_key == key.public_key) return "the key of " + key.name + " is also that of " + other.name;
      if (key.role == KeyRole::kNode && other.role == KeyRole::kNode && other.node == key.node) {
        return "node id " + std::to_string(key.node.value) + " is also that of " + other.name;
      }
    }
    keys.push_back(std::move(key));
    return std::nullopt;
  });
  if (error) return *error;
  return keys;
}

std::string format_allow_list(const std::vector<AllowedKey>& keys) {
  std::string text = "# Consort: which CURVE key is whom.\n";
  for (const auto& key : keys) {
    text +=
        key.role == KeyRole::kNode ? "node " + key.name + ' ' + std::to_string(key.node.value) : "operator " + key.name;
    text += ' ' + key.public_key + '\n';
  }
  return text;
}

Status write_allow_list(const std::string& path, const std::vector<AllowedKey>& keys) {
  const auto temporary = path + ".new." + std::to_string(::getpid());
  ::unlink(temporary.c_str());
  CONSORT_RETURN_IF_ERROR(write_new(temporary, format_allow_list(keys)));
  if (::rename(temporary.c_str(), path.c_str()) != 0) return trouble("cannot replace", path);
  auto folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) folder = ".";
  const File directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.fd() < 0 || ::fsync(directory.fd()) != 0) return trouble("cannot sync", folder.string());
  return runtime::done();
}

Outcome<std::vector<AllowedKey>> read_allow_list(const std::string& path) {
  CONSORT_TRY(const auto text, read_private(path));
  auto keys = parse_allow_list(text);
  if (!keys.ok()) return failure(ErrorKind::kInvalid, path + ": " + keys.error().text);
  return keys;
}

}  // namespace consort::transport
