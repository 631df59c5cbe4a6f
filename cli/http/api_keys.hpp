// API keys: who may use the HTTP service. The file holds names and hashes, never a key.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/metering/quotas.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

struct ApiKey {
  std::string name;                    // [a-z0-9._-]{1,64}, unique
  std::array<unsigned char, 32> hash;  // BLAKE2b-256 of the key; a key has 256 random bits, so no salt is needed
  std::int64_t created = 0;            // unix seconds
  KeyLimits limits{};
};

inline constexpr std::size_t kMaxApiKeys = 1024;  // each is compared with at every request
// Above every real wish, below what sums could not hold.
inline constexpr std::uint64_t kMaxKeyLimit = 1'000'000'000'000;
bool is_api_key_name(std::string_view name);

// A limit as it is named in the file, and with '-' for '_' on the command line.
struct KeyLimitName {
  std::string_view name;
  std::uint64_t KeyLimits::*limit;
};
inline constexpr KeyLimitName kKeyLimitNames[] = {{"requests_per_minute", &KeyLimits::requests_per_minute},
                                                  {"tokens_per_minute", &KeyLimits::tokens_per_minute},
                                                  {"concurrent", &KeyLimits::concurrent},
                                                  {"tokens_per_day", &KeyLimits::tokens_per_day}};

std::array<unsigned char, 32> hash_of_api_key(std::string_view key);
// "sk-consort-" and 43 characters of 256 random bits.
std::string make_api_key();

// The first line "consort-api-keys 2", then a key a line: "<name> <hash in hex> <created>" and its limits, like
// "concurrent=4". Files of version 1 have neither the first line nor limits.
runtime::Outcome<std::vector<ApiKey>> parse_api_keys(std::string_view text, std::string_view where);
std::string format_api_keys(const std::vector<ApiKey>& keys);
// nullopt: there is no such file, so that no key was ever made.
runtime::Outcome<std::optional<std::vector<ApiKey>>> read_api_keys(const std::string& path);

// The file as a running service sees it: read again when it has changed.
class ApiKeyRing {
 public:
  explicit ApiKeyRing(std::string path) : path_(std::move(path)) {}
  // Whether requests need a key: as soon as the file exists, also where all keys were revoked. A file that cannot be
  // read keeps everybody out.
  bool needs_key();
  // Null: not known. Takes the same time for every key of a length. Valid until the next call.
  const ApiKey* find(std::string_view key);

 private:
  void look();

  const std::string path_;
  struct Stamp {
    std::int64_t seconds = 0, nanoseconds = 0, size = 0;
    std::uint64_t inode = 0;
    bool operator==(const Stamp&) const = default;
  };
  std::optional<Stamp> seen_;  // none: no file
  bool needs_key_ = false;
  std::vector<ApiKey> keys_;
};

}  // namespace consort::cli
