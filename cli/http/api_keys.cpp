#include "cli/http/api_keys.hpp"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "runtime/check.hpp"

namespace consort::cli {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;

namespace {

constexpr std::string_view kPrefix = "sk-consort-";
constexpr std::size_t kSecretBytes = 32;
constexpr std::size_t kMaxNameBytes = 64;
constexpr std::size_t kMaxFileBytes = kMaxApiKeys * 200;  // a line has at most 64 + 1 + 64 + 1 + 20 bytes

void need_sodium() { CONSORT_CHECK(sodium_init() >= 0, "libsodium does not start"); }

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-") == std::string_view::npos;
}

Outcome<ApiKey> parse_line(std::string_view line) {
  const auto wrong = [] { return failure(ErrorKind::kInvalid, "must be \"<name> <hash> <created>\""); };
  const std::size_t first = line.find(' ');
  const std::size_t second = first == std::string_view::npos ? first : line.find(' ', first + 1);
  if (second == std::string_view::npos) return wrong();
  ApiKey key{std::string(line.substr(0, first)), {}, 0};
  const std::string hex(line.substr(first + 1, second - first - 1));
  const std::string_view created = line.substr(second + 1);
  std::size_t bytes = 0;
  const char* end = nullptr;
  const bool is_hex =
      hex.size() == 2 * key.hash.size() &&
      sodium_hex2bin(key.hash.data(), key.hash.size(), hex.data(), hex.size(), nullptr, &bytes, &end) == 0 &&
      bytes == key.hash.size();
  const auto number = std::from_chars(created.data(), created.data() + created.size(), key.created);
  const bool is_number = number.ec == std::errc() && number.ptr == created.data() + created.size();
  if (!is_name(key.name) || !is_hex || !is_number) return wrong();
  return key;
}

}  // namespace

std::array<unsigned char, 32> hash_of_api_key(std::string_view key) {
  need_sodium();
  std::array<unsigned char, 32> hash{};
  crypto_generichash(hash.data(), hash.size(), reinterpret_cast<const unsigned char*>(key.data()), key.size(), nullptr,
                     0);
  return hash;
}

std::string make_api_key() {
  need_sodium();
  std::array<unsigned char, kSecretBytes> secret{};
  randombytes_buf(secret.data(), secret.size());
  std::array<char, sodium_base64_ENCODED_LEN(kSecretBytes, sodium_base64_VARIANT_URLSAFE_NO_PADDING)> text{};
  sodium_bin2base64(text.data(), text.size(), secret.data(), secret.size(), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
  sodium_memzero(secret.data(), secret.size());
  return std::string(kPrefix) + text.data();
}

Outcome<std::vector<ApiKey>> parse_api_keys(std::string_view text, std::string_view where) {
  std::vector<ApiKey> keys;
  for (int number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const auto wrong = [&](const std::string& what) {
      return failure(ErrorKind::kInvalid, std::string(where) + ":" + std::to_string(number) + ": " + what);
    };
    auto key = parse_line(line);
    if (!key.ok()) return wrong(key.error().text);
    if (keys.size() >= kMaxApiKeys) return wrong("there are more than " + std::to_string(kMaxApiKeys) + " keys");
    if (std::ranges::find(keys, key->name, &ApiKey::name) != keys.end())
      return wrong("the name '" + key->name + "' is there twice");
    keys.push_back(std::move(key).value());
  }
  return keys;
}

std::string format_api_keys(const std::vector<ApiKey>& keys) {
  std::string text;
  for (const ApiKey& key : keys) {
    std::array<char, 65> hex{};
    sodium_bin2hex(hex.data(), hex.size(), key.hash.data(), key.hash.size());
    text += key.name + " " + hex.data() + " " + std::to_string(key.created) + "\n";
  }
  return text;
}

Outcome<std::optional<std::vector<ApiKey>>> read_api_keys(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (file < 0 && errno == ENOENT) return std::optional<std::vector<ApiKey>>();
  if (file < 0) return failure(ErrorKind::kInvalid, path + ": cannot be read: " + std::strerror(errno));
  struct stat info {};
  const bool is_ours = ::fstat(file, &info) == 0 && (info.st_mode & 077) == 0;
  std::string text(kMaxFileBytes + 1, '\0');
  std::size_t bytes = 0;
  while (is_ours && bytes < text.size()) {
    const ssize_t got = ::read(file, text.data() + bytes, text.size() - bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    bytes += static_cast<std::size_t>(got);
  }
  ::close(file);
  if (!is_ours) return failure(ErrorKind::kInvalid, path + ": others can read it: chmod 600");
  if (bytes > kMaxFileBytes) return failure(ErrorKind::kInvalid, path + ": is too large");
  text.resize(bytes);
  CONSORT_TRY(auto keys, parse_api_keys(text, path));
  return std::optional<std::vector<ApiKey>>(std::move(keys));
}

void ApiKeyRing::look() {
  struct stat info {};
  std::optional<Stamp> stamp;
  if (::lstat(path_.c_str(), &info) == 0) {
    stamp = Stamp{info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_size, info.st_ino};
  } else if (errno != ENOENT) {
    stamp = Stamp{-1, 0, 0, 0};
  }
  if (stamp == seen_) return;
  seen_ = stamp;
  keys_.clear();
  needs_key_ = stamp.has_value();
  auto read = read_api_keys(path_);
  if (read.ok() && *read) keys_ = std::move(**read);
}

bool ApiKeyRing::needs_key() {
  look();
  return needs_key_;
}

std::optional<std::string> ApiKeyRing::find(std::string_view key) {
  look();
  const auto hash = hash_of_api_key(key);
  const ApiKey* found = nullptr;
  for (const ApiKey& known : keys_) {  // all of them, so that the time says nothing
    if (sodium_memcmp(known.hash.data(), hash.data(), hash.size()) == 0) found = &known;
  }
  if (found == nullptr) return std::nullopt;
  return found->name;
}

}  // namespace consort::cli
