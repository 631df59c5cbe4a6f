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
constexpr std::size_t kMaxFileBytes =
    kMaxApiKeys * 400;  // a line has less than 64 + 1 + 64 + 1 + 20 + 4 * (1 + 20 + 13) bytes
constexpr std::string_view kVersionLine = "consort-api-keys ";
constexpr std::string_view kVersion = "2";

void need_sodium() { CONSORT_CHECK(sodium_init() >= 0, "libsodium does not start"); }

// Cuts off the text up to the next space.
std::string_view take_word(std::string_view& text) {
  const std::size_t end = std::min(text.find(' '), text.size());
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return word;
}

template <class Number>
bool read_number(std::string_view text, Number& out) {
  const auto read = std::from_chars(text.data(), text.data() + text.size(), out);
  return read.ec == std::errc() && read.ptr == text.data() + text.size();
}

bool read_limit(std::string_view word, KeyLimits& limits) {
  const std::size_t sign = word.find('=');
  const auto* named = std::ranges::find(kKeyLimitNames, word.substr(0, sign), &KeyLimitName::name);
  if (sign == std::string_view::npos || named == std::end(kKeyLimitNames)) return false;
  std::uint64_t& limit = limits.*named->limit;
  if (limit != 0 || !read_number(word.substr(sign + 1), limit)) return false;
  return limit >= 1 && limit <= kMaxKeyLimit;
}

Outcome<ApiKey> parse_line(std::string_view line, bool has_limits) {
  const auto wrong = [&] {
    return failure(ErrorKind::kInvalid,
                   std::string("must be \"<name> <hash> <created>\"") + (has_limits ? " and limits" : ""));
  };
  ApiKey key{std::string(take_word(line)), {}, 0, {}};
  const std::string hex(take_word(line));
  const std::string_view created = take_word(line);
  std::size_t bytes = 0;
  const char* end = nullptr;
  const bool is_hex =
      hex.size() == 2 * key.hash.size() &&
      sodium_hex2bin(key.hash.data(), key.hash.size(), hex.data(), hex.size(), nullptr, &bytes, &end) == 0 &&
      bytes == key.hash.size();
  if (!is_api_key_name(key.name) || !is_hex || !read_number(created, key.created)) return wrong();
  if (!has_limits && !line.empty()) return wrong();
  while (!line.empty()) {
    if (!read_limit(take_word(line), key.limits)) return wrong();
  }
  return key;
}

}  // namespace

bool is_api_key_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-") == std::string_view::npos;
}

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
  bool has_limits = false;  // version 2
  for (int number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const auto wrong = [&](const std::string& what) {
      return failure(ErrorKind::kInvalid, std::string(where) + ":" + std::to_string(number) + ": " + what);
    };
    if (number == 1 && line.starts_with(kVersionLine)) {
      if (line.substr(kVersionLine.size()) != kVersion) return wrong("a newer version of this program wrote it");
      has_limits = true;
      continue;
    }
    auto key = parse_line(line, has_limits);
    if (!key.ok()) return wrong(key.error().text);
    if (keys.size() >= kMaxApiKeys) return wrong("there are more than " + std::to_string(kMaxApiKeys) + " keys");
    if (std::ranges::find(keys, key->name, &ApiKey::name) != keys.end())
      return wrong("the name '" + key->name + "' is there twice");
    keys.push_back(std::move(key).value());
  }
  return keys;
}

std::string format_api_keys(const std::vector<ApiKey>& keys) {
  std::string text = std::string(kVersionLine) + std::string(kVersion) + "\n";
  for (const ApiKey& key : keys) {
    std::array<char, 65> hex{};
    sodium_bin2hex(hex.data(), hex.size(), key.hash.data(), key.hash.size());
    text += key.name + " " + hex.data() + " " + std::to_string(key.created);
    for (const auto& [name, limit] : kKeyLimitNames) {
      if (key.limits.*limit > 0) (text += " ").append(name) += "=" + std::to_string(key.limits.*limit);
    }
    text += "\n";
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

const ApiKey* ApiKeyRing::find(std::string_view key) {
  look();
  const auto hash = hash_of_api_key(key);
  const ApiKey* found = nullptr;
  for (const ApiKey& known : keys_) {  // all of them, so that the time says nothing
    if (sodium_memcmp(known.hash.data(), hash.data(), hash.size()) == 0) found = &known;
  }
  return found;
}

}  // namespace consort::cli
