// `consort keys api add`, `set`, `list`, `revoke`: who may use a cluster's HTTP service.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>
#include <ctime>

#include "cli/commands.hpp"
#include "cli/house/cluster_state.hpp"
#include "cli/http/api_keys.hpp"

namespace consort::cli {

namespace {

void list(const std::optional<std::vector<ApiKey>>& keys) {
  if (!keys) return (void)std::printf("no key was made yet: requests from this machine need none\n");
  for (const ApiKey& key : *keys) {
    const std::time_t created = key.created;
    std::tm parts{};
    ::gmtime_r(&created, &parts);
    char day[32];
    std::strftime(day, sizeof day, "%Y-%m-%d %H:%M UTC", &parts);
    std::string limits;
    for (const auto& [name, limit] : kKeyLimitNames) {
      if (key.limits.*limit > 0) (limits += "  ").append(name) += " " + std::to_string(key.limits.*limit);
    }
    std::printf("%-20s made %s%s\n", key.name.c_str(), day, limits.c_str());
  }
  if (keys->empty()) std::printf("all keys are revoked: nobody is served\n");
}

void set_limits(const KeysOptions& options, ApiKey& key) {
  for (const auto& [name, limit] : kKeyLimitNames) {
    const auto given = options.limits.find(std::string(name));
    if (given != options.limits.end()) key.limits.*limit = given->second;
  }
}

}  // namespace

int run_keys(const KeysOptions& options) {
  const auto state = ClusterState::of_file(options.cluster_file);
  if (!state.ok()) return wrong_use(state.error().text);
  const std::string file = state->folder.api_keys_file();
  auto read = read_api_keys(file);
  if (!read.ok()) return wrong_use(read.error().text);
  if (options.what == KeysOptions::What::kList) {
    list(*read);
    return kExitOk;
  }
  if (!is_api_key_name(options.name)) return wrong_use("a key's name is 1 to 64 of a-z, 0-9, '.', '_', '-'");
  std::vector<ApiKey> keys = std::move(*read).value_or(std::vector<ApiKey>());
  const auto known = std::ranges::find(keys, options.name, &ApiKey::name);
  std::string made;
  if (options.what == KeysOptions::What::kAdd) {
    if (known != keys.end()) return wrong_use("there is a key named '" + options.name + "' already: revoke it first");
    if (keys.size() >= kMaxApiKeys) return wrong_use("there are " + std::to_string(kMaxApiKeys) + " keys already");
    made = make_api_key();
    keys.push_back({options.name, hash_of_api_key(made), static_cast<std::int64_t>(std::time(nullptr)), {}});
    set_limits(options, keys.back());
  } else {
    if (known == keys.end()) return wrong_use("there is no key named '" + options.name + "'");
    if (options.what == KeysOptions::What::kSet) {
      set_limits(options, *known);
    } else {
      keys.erase(known);
    }
  }
  runtime::Status written = state->folder.create();
  if (written.ok()) written = StateFolder::write(file, format_api_keys(keys));
  if (!written.ok()) return job_failed(written.error().text);
  if (!made.empty()) {
    std::printf("%s\n", made.c_str());
    std::fprintf(stderr, "this is the only time that the key is shown; from now on every request needs one\n");
  }
  return kExitOk;
}

}  // namespace consort::cli
