// `consort status`: who is here, in which life, holding what.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <boost/json.hpp>
#include <cstdio>

#include "actors/experts/part_messages.hpp"
#include "cli/cluster_table.hpp"
#include "cli/commands.hpp"
#include "cli/house/client.hpp"
#include "model/part.hpp"

namespace consort::cli {
namespace {

constexpr auto kStatusDeadline = std::chrono::seconds(5);

boost::json::object member_json(const cluster::Member& member, const cluster::ClusterStatusReport& report) {
  boost::json::array roles;
  for (const auto& role : role_names(member.roles)) roles.emplace_back(role);
  return {{"node", member.node.value},
          {"name", member.name},
          {"roles", roles},
          {"state", cluster::name(member.state)},
          {"suspected", std::ranges::count(report.suspected, member.node) > 0},
          {"incarnation", member.incarnation.value},
          {"parts", member.part_count},
          {"part_bytes", member.part_bytes},
          {"trunk_bytes", member.profile.trunk_bytes},
          {"memory_bytes", member.profile.memory_bytes},
          {"checkpoint_bytes_read", member.checkpoint_bytes_read},
          {"expert_bytes_per_second", member.profile.expert_bytes_per_second},
          {"link_delay_seconds", member.profile.link_delay_seconds},
          {"link_bytes_per_second", member.profile.link_bytes_per_second}};
}

void print_json(const cluster::ClusterStatusReport& report) {
  boost::json::array nodes;
  for (const auto& member : report.view->members) nodes.push_back(member_json(member, report));
  boost::json::object counters;
  for (const auto& [name, count] : report.counters) counters[name] = count;
  const boost::json::object all{{"epoch", report.view->epoch.value},
                                {"version", report.view->version},
                                {"answered_by", report.answered_by.value},
                                {"coordinator_reachable", report.coordinator_reachable},
                                {"trouble", report.trouble},
                                {"prediction", report.prediction},
                                {"nodes", nodes},
                                {"counters", counters}};
  std::printf("%s\n", boost::json::serialize(all).c_str());
}

runtime::Status write_plan(const cluster::ClusterView& view, const std::string& file) {
  if (view.numeric_plan.cut.empty()) {
    return runtime::failure(runtime::ErrorKind::kInvalid,
                            "the cluster has no numeric plan yet: wait until it is ready");
  }
  return StateFolder::write(file, model::to_json(actors::model_plan(view.numeric_plan)) + "\n");
}

}  // namespace

int run_status(const StatusOptions& options) {
  const auto state = ClusterState::of_file(options.cluster_file);
  if (!state.ok()) return wrong_use(state.error().text);
  const auto client = Client::open(*state);
  if (!client.ok()) return job_failed(client.error().text);
  const auto report = (*client)->status(kStatusDeadline);
  if (!report.ok()) return job_failed(report.error().text);
  if (options.json) {
    print_json(*report);
  } else {
    print_cluster_table(*report);
  }
  if (options.numeric_plan_out.empty()) return kExitOk;
  const auto written = write_plan(*report->view, options.numeric_plan_out);
  return written.ok() ? kExitOk : job_failed(written.error().text);
}

}  // namespace consort::cli
