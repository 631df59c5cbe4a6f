#include "cli/cluster_table.hpp"

#include <algorithm>
#include <cstdio>
#include <string>

namespace consort::cli {
namespace {

std::string megabytes(std::uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f MB", static_cast<double>(bytes) / 1e6);
  return text;
}

std::string rate(double bytes_per_second) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GB/s", bytes_per_second / 1e9);
  return bytes_per_second > 0 ? text : "-";
}

}  // namespace

std::vector<std::string_view> role_names(const cluster::NodeRoles& roles) {
  std::vector<std::string_view> names;
  if (roles.coordinator) names.push_back("coordinator");
  if (roles.batcher) names.push_back("batcher");
  if (roles.trunk) names.push_back("trunk");
  if (roles.experts) names.push_back("experts");
  if (roles.gateway) names.push_back("gateway");
  return names;
}

void print_cluster_table(const cluster::ClusterStatusReport& report) {
  std::printf("%-12s %-10s %5s %6s %12s %12s %12s %11s  %s\n", "node", "state", "life", "parts", "parts hold",
              "trunk+kv", "bytes read", "speed", "roles");
  for (const auto& member : report.view->members) {
    std::string roles;
    for (const auto& role : role_names(member.roles)) roles += (roles.empty() ? "" : ", ") + std::string(role);
    const bool suspected = std::ranges::count(report.suspected, member.node) > 0;
    std::printf("%-12s %-10s %5u %6u %12s %12s %12s %11s  %s\n", member.name.c_str(),
                suspected ? "suspected" : std::string(cluster::name(member.state)).c_str(), member.incarnation.value,
                member.part_count, megabytes(member.part_bytes).c_str(), megabytes(member.profile.trunk_bytes).c_str(),
                megabytes(member.checkpoint_bytes_read).c_str(), rate(member.profile.expert_bytes_per_second).c_str(),
                roles.c_str());
  }
  std::printf("epoch %u, experts in %zu column range%s\n", report.view->epoch.value,
              report.view->numeric_plan.cut.size(), report.view->numeric_plan.cut.size() == 1 ? "" : "s");
  if (!report.prediction.empty()) std::printf("%s\n", report.prediction.c_str());
  if (!report.coordinator_reachable) std::printf("the coordinator does not answer; the cluster serves without it\n");
  if (!report.trouble.empty()) std::printf("trouble: %s\n", report.trouble.c_str());
}

}  // namespace consort::cli
