#include "cli/live_table.hpp"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "cli/cluster_table.hpp"

namespace consort::cli {

using cluster::NodeFigures;
namespace figure = cluster::figure;

namespace {

__attribute__((format(printf, 2, 3))) void print_to(std::string& out, const char* format, ...) {
  char line[512];
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  out += line;
}

// One node's figures, and what they grew by.
struct Growth {
  const NodeFigures* now = nullptr;
  const NodeFigures* before = nullptr;
  double seconds = 0;  // between the two; 0: since its start

  double of(std::string_view name) const {
    return static_cast<double>(now->value(name) - (before == nullptr ? 0 : before->value(name)));
  }
  double wait_of(const NodeFigures::Edge& edge) const {
    std::uint64_t earlier = 0;
    if (before != nullptr) {
      const auto known = std::ranges::find(before->edges, edge.peer, &NodeFigures::Edge::peer);
      if (known != before->edges.end()) earlier = known->wait_ns;
    }
    return static_cast<double>(edge.wait_ns - earlier);
  }
};

Growth growth_of(const NodeFigures& now, const cluster::ClusterPicture& earlier) {
  const auto known = earlier.nodes.find(now.node);
  if (known == earlier.nodes.end() || known->second.incarnation != now.incarnation) return {&now};
  return {&now, &known->second, static_cast<double>(now.at_ns - known->second.at_ns) / 1e9};
}

std::string roles_of(const cluster::Member& member) {
  std::string roles;
  for (const auto& role : role_names(member.roles)) roles += (roles.empty() ? "" : ", ") + std::string(role);
  return roles;
}

std::string bytes_in_words(double bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  std::size_t unit = 0;
  for (; bytes >= 999.5 && unit + 1 < std::size(kUnits); ++unit) bytes /= 1000;
  char text[32];
  std::snprintf(text, sizeof text, bytes >= 99.5 || unit == 0 ? "%.0f %s" : "%.2f %s", bytes, kUnits[unit]);
  return text;
}

void add_nodes(std::string& out, const cluster::ClusterPicture& before, const cluster::ClusterPicture& now) {
  print_to(out, "%-12s %-10s %5s %12s %14s %6s  %s\n", "node", "state", "life", "holds", "bandwidth", "busy", "roles");
  for (const auto& member : now.report.view->members) {
    const bool suspected = std::ranges::count(now.report.suspected, member.node) > 0;
    std::string bandwidth = "-", busy = "-";
    const auto figures = now.nodes.find(member.node);
    if (figures != now.nodes.end() && member.roles.experts) {
      const Growth growth = growth_of(figures->second, before);
      const double busy_seconds = growth.of(figure::kPartBusyNs) / 1e9;
      if (busy_seconds > 0) bandwidth = bytes_in_words(growth.of(figure::kPartBytesRead) / busy_seconds) + "/s";
      char text[16];
      std::snprintf(text, sizeof text, "%.1f %%", growth.seconds > 0 ? 100 * busy_seconds / growth.seconds : 0);
      if (growth.seconds > 0) busy = text;
    }
    print_to(out, "%-12s %-10s %5u %12s %14s %6s  %s\n", member.name.c_str(),
             suspected ? "suspected" : std::string(cluster::name(member.state)).c_str(), member.incarnation.value,
             bytes_in_words(static_cast<double>(member.part_bytes + member.profile.trunk_bytes)).c_str(),
             bandwidth.c_str(), busy.c_str(), roles_of(member).c_str());
  }
}

void add_requests(std::string& out, const cluster::ClusterPicture& before, const cluster::ClusterPicture& now) {
  std::uint64_t running = 0, queued = 0, used = 0, total = 0;
  double tokens = 0, queries = 0, hits = 0;
  for (const auto& [node, figures] : now.nodes) {
    running += figures.value(figure::kRunning);
    queued += figures.value(figure::kQueued);
    used += figures.value(figure::kPagesUsed);
    total += figures.value(figure::kPagesTotal);
    queries += static_cast<double>(figures.value(figure::kPrefixQueries));
    hits += static_cast<double>(figures.value(figure::kPrefixHits));
    const Growth growth = growth_of(figures, before);
    if (growth.seconds > 0) tokens += growth.of(figure::kTokens) / growth.seconds;
  }
  print_to(out, "requests: %llu running, %llu waiting; %.1f tokens/s; KV pages: %llu of %llu",
           static_cast<unsigned long long>(running), static_cast<unsigned long long>(queued), tokens,
           static_cast<unsigned long long>(used), static_cast<unsigned long long>(total));
  if (queries > 0) print_to(out, "; %.0f %% of prompts from the cache", 100 * hits / queries);
  out += "\n";
}

void add_steps(std::string& out, const cluster::ClusterPicture& before, const cluster::ClusterPicture& now) {
  static constexpr std::pair<std::string_view, const char*> kPhases[] = {
      {figure::kAttentionNs, "attention"}, {figure::kSharedNs, "shared"},   {figure::kDispatchNs, "dispatch"},
      {figure::kExpertsNs, "experts"},     {figure::kCombineNs, "combine"}, {figure::kHeadNs, "head"}};
  for (const auto& [node, figures] : now.nodes) {
    Growth growth = growth_of(figures, before);
    std::string when;
    if (growth.of(figure::kSteps) == 0 && growth.before != nullptr) {
      growth = {&figures};
      when = " since its start";
    }
    const double steps = growth.of(figure::kSteps);
    const double time = growth.of(figure::kStepNs);
    if (steps == 0 || time <= 0) continue;
    const cluster::Member* member = now.report.view->find(node);
    print_to(out, "%-12s %.0f steps%s, %.2f ms and %.1f rows per step:", member == nullptr ? "?" : member->name.c_str(),
             steps, when.c_str(), time / steps / 1e6, growth.of(figure::kStepRows) / steps);
    double told = 0;
    const auto tell = [&](const std::string& what, double ns) {
      told += ns;
      if (ns > 0) print_to(out, " %s %.1f %%", what.c_str(), 100 * ns / time);
    };
    for (const auto& [name, words] : kPhases) tell(words, growth.of(name));
    for (const auto& edge : figures.edges) {
      const cluster::Member* peer = now.report.view->find(edge.peer);
      tell("wait(" + (peer == nullptr ? std::to_string(edge.peer.value) : peer->name) + ")", growth.wait_of(edge));
    }
    print_to(out, " hand-over %.1f %%\n", 100 * std::max(0.0, time - told) / time);
  }
}

}  // namespace

std::string live_table(const cluster::ClusterPicture& before, const cluster::ClusterPicture& now) {
  std::string out;
  add_nodes(out, before, now);
  out += "\n";
  add_requests(out, before, now);
  add_steps(out, before, now);
  if (!now.report.coordinator_reachable) out += "the coordinator does not answer; the cluster serves without it\n";
  if (!now.report.trouble.empty()) out += "trouble: " + now.report.trouble + "\n";
  return out;
}

}  // namespace consort::cli
