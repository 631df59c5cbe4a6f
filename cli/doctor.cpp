// `consort doctor`: what each machine of a cluster has, what is missing, and the command that mends it.
// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>
#include <cstdio>

#include "cli/commands.hpp"
#include "cli/house/machine_report.hpp"
#include "model/checkpoint.hpp"

namespace consort::cli {
namespace {

struct HostFindings {
  std::string host;  // "this machine", or what ssh is given
  std::vector<Finding> findings;
};

void add_cluster(const std::string& file, std::vector<HostFindings>& hosts) {
  auto& here = hosts.front().findings;
  const auto state = ClusterState::of_file(file);
  if (!state.ok()) return here.push_back({false, "cluster file", state.error().text, "edit " + file});
  here.push_back({true, "cluster file",
                  std::to_string(state->config.nodes.size()) + " nodes on " +
                      std::to_string(state->processes.agents.size()) + " host(s)",
                  ""});
  if (const auto checked = cluster::check_exposure(state->config); !checked.ok()) {
    here.push_back({false, "gateway", checked.error().text, "edit " + file});
  }
  const auto checkpoint = model::Checkpoint::open(state->config.model);
  here.push_back(checkpoint.ok() ? Finding{true, "model", state->config.model + " is whole", ""}
                                 : Finding{false, "model", checkpoint.error().text,
                                           "put the model's files there, or give another cluster.model"});
  for (auto& finding : examine_own_hosts(*state)) here.push_back(std::move(finding));
  here.push_back({true, "state", state->folder.path(), ""});
  const Elsewhere elsewhere(*state);
  for (const auto& host : elsewhere.hosts()) hosts.push_back({host.ssh, examine_host(elsewhere, *state, host)});
}

void print_lines(const std::vector<HostFindings>& hosts) {
  for (const auto& host : hosts) {
    if (hosts.size() > 1) std::printf("%s\n", host.host.c_str());
    for (const Finding& finding : host.findings) {
      std::printf("%-4s %-14s %s\n", finding.is_good ? "ok" : "BAD", finding.subject.c_str(), finding.text.c_str());
      if (!finding.mend.empty()) std::printf("     %-14s -> %s\n", "", finding.mend.c_str());
    }
  }
}

void print_json(const std::vector<HostFindings>& hosts, bool all_good) {
  namespace json = boost::json;
  json::array list;
  for (const auto& host : hosts) {
    json::array findings;
    for (const Finding& finding : host.findings) {
      findings.push_back(
          json::object{{"good", finding.is_good},
                       {"subject", finding.subject},
                       {"text", finding.text},
                       {"mend", finding.mend.empty() ? json::value(nullptr) : json::value(finding.mend)}});
    }
    list.push_back(json::object{{"host", host.host}, {"findings", std::move(findings)}});
  }
  std::printf("%s\n", json::serialize(json::object{{"good", all_good}, {"hosts", std::move(list)}}).c_str());
}

}  // namespace

int run_doctor(const DoctorOptions& options) {
  std::vector<HostFindings> hosts{{"this machine", examine_machine()}};
  if (!options.cluster_file.empty()) add_cluster(options.cluster_file, hosts);
  bool all_good = true;
  for (const auto& host : hosts) {
    for (const Finding& finding : host.findings) all_good = all_good && finding.is_good;
  }
  if (options.json) {
    print_json(hosts, all_good);
  } else {
    print_lines(hosts);
  }
  return all_good ? kExitOk : kExitFailed;
}

}  // namespace consort::cli
