// `consort doctor`: what this machine has, what is missing, and whether a cluster file fits it.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "cli/commands.hpp"
#include "cli/house/cluster_state.hpp"
#include "cli/house/machine_report.hpp"
#include "model/checkpoint.hpp"

namespace consort::cli {
namespace {

void check_cluster(const std::string& file, std::vector<Finding>& findings) {
  const auto state = ClusterState::of_file(file);
  if (!state.ok()) return findings.push_back({false, "cluster file", state.error().text});
  findings.push_back({true, "cluster file",
                      std::to_string(state->config.nodes.size()) + " nodes on " +
                          std::to_string(state->processes.agents.size()) + " host(s)"});
  if (const auto checked = cluster::check_exposure(state->config); !checked.ok()) {
    findings.push_back({false, "gateway", checked.error().text});
  }
  const auto checkpoint = model::Checkpoint::open(state->config.model);
  findings.push_back(checkpoint.ok() ? Finding{true, "model", state->config.model + " is whole"}
                                     : Finding{false, "model", checkpoint.error().text});
  findings.push_back({true, "state", state->folder.path()});
}

}  // namespace

int run_doctor(const std::string& cluster_file) {
  std::vector<Finding> findings = examine_machine();
  if (!cluster_file.empty()) check_cluster(cluster_file, findings);
  bool all_good = true;
  for (const Finding& finding : findings) {
    std::printf("%-4s %-14s %s\n", finding.is_good ? "ok" : "BAD", finding.subject.c_str(), finding.text.c_str());
    all_good = all_good && finding.is_good;
  }
  return all_good ? kExitOk : kExitFailed;
}

}  // namespace consort::cli
