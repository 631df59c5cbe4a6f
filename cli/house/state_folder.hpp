// StateFolder: where a cluster keeps its keys, addresses, logs and decisions on this host.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/outcome.hpp"

namespace consort::cli {

// $XDG_STATE_HOME/consort/<cluster>, else ~/.local/state/consort/<cluster>. Folders are 0700, files 0600. Clients find
// the cluster through it: the processes write their addresses here.
class StateFolder {
 public:
  // Refuses names that are not [a-z0-9._-]{1,64}.
  static runtime::Outcome<StateFolder> of_cluster(std::string_view cluster_name);
  explicit StateFolder(std::string path) : path_(std::move(path)) {}

  runtime::Status create() const;  // idempotent
  const std::string& path() const { return path_; }

  std::string cluster_file() const { return path_ + "/cluster.toml"; }  // the config in force, paths made absolute
  std::string options_file() const { return path_ + "/options"; }       // what `up` was told beside it
  std::string key_file(std::string_view process) const { return path_ + "/keys/" + std::string(process) + ".key"; }
  std::string allowed_keys_file() const { return path_ + "/keys/allowed"; }
  std::string address_file(std::string_view process) const {
    return path_ + "/run/" + std::string(process) + ".address";
  }
  std::string pid_file(std::string_view process) const { return path_ + "/run/" + std::string(process) + ".pid"; }
  std::string log_file(std::string_view process) const { return path_ + "/log/" + std::string(process) + ".log"; }
  std::string api_keys_file() const { return path_ + "/keys/api-keys"; }
  std::string usage_file() const { return path_ + "/usage.log"; }
  std::string decisions_file() const { return path_ + "/decisions.log"; }

  // Replaces the file in one step. 0600.
  static runtime::Status write(const std::string& file, std::string_view text);
  static runtime::Outcome<std::string> read(const std::string& file);
  static std::optional<std::string> read_if_there(const std::string& file);
  // The pid in the file, if that process lives and is one of this program's; else nothing.
  std::optional<int> living_process(std::string_view process) const;

 private:
  std::string path_;
};

}  // namespace consort::cli
