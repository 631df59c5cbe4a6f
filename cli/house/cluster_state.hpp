// ClusterState: a cluster file together with its state folder: what every process of the cluster starts from.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "cli/house/process_list.hpp"
#include "cli/house/state_folder.hpp"
#include "cluster/node_config.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

// What `up` was told beside the file.
struct UpChoices {
  std::string config_path;  // of the cluster file, absolute: the model's path is relative to it
  bool no_restart = false;
  bool insecure = false;     // the Gateway may listen where others can read along
  std::string model;         // where the host of this folder has it; empty: where the cluster file says
  std::string numeric_plan;  // JSON; empty: decided at the first up
};

struct ClusterState {
  cluster::ClusterConfig config;
  StateFolder folder;
  ProcessList processes;
  UpChoices choices;

  // From a cluster file, for clients and `up`; the choices are empty.
  static runtime::Outcome<ClusterState> of_file(const std::string& cluster_file);
  // From the state folder, for the processes that `up` started.
  static runtime::Outcome<ClusterState> of_folder(const std::string& state_dir);
  // Copies the file and the choices into the folder, where of_folder finds them.
  runtime::Status keep(const UpChoices& kept) const;
  static std::string options_text(const UpChoices& choices);  // as it is kept
};

}  // namespace consort::cli
