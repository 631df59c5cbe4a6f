#include "cli/http/live_json.hpp"

#include <algorithm>
#include <boost/json.hpp>

namespace consort::cli {

namespace json = boost::json;

namespace {

json::array role_list(const cluster::NodeRoles& roles) {
  json::array names;
  if (roles.coordinator) names.emplace_back("coordinator");
  if (roles.batcher) names.emplace_back("batcher");
  if (roles.trunk) names.emplace_back("trunk");
  if (roles.experts) names.emplace_back("experts");
  if (roles.gateway) names.emplace_back("gateway");
  return names;
}

json::object figures_json(const cluster::NodeFigures& figures) {
  json::object numbers;
  for (const auto& [name, value] : figures.numbers) numbers[name] = value;
  json::array edges;
  for (const auto& edge : figures.edges) {
    edges.push_back(json::object{{"peer", edge.peer.value},
                                 {"dispatches", edge.dispatches},
                                 {"answers", edge.answers},
                                 {"sent_bytes", edge.sent_bytes},
                                 {"round_trip_ns", edge.round_trip_ns},
                                 {"wait_ns", edge.wait_ns}});
  }
  json::array loads;
  for (const auto& load : figures.loads) {
    loads.push_back(json::object{{"layer", load.layer}, {"rows", json::array(load.rows.begin(), load.rows.end())}});
  }
  return {{"at_ns", figures.at_ns}, {"numbers", numbers}, {"edges", edges}, {"loads", loads}};
}

}  // namespace

std::string about_json(const About& about) {
  return json::serialize(json::object{{"model", about.model},
                                      {"version", about.version},
                                      {"context_tokens", about.context_tokens},
                                      {"needs_key", about.needs_key},
                                      {"thinking_switch", about.has_thinking_switch}});
}

std::string live_json(const cluster::ClusterPicture& picture, const runtime::MetricsSnapshot& own) {
  const cluster::ClusterStatusReport& report = picture.report;
  json::array nodes;
  for (const auto& member : report.view->members) {
    json::object node{{"id", member.node.value},
                      {"name", member.name},
                      {"roles", role_list(member.roles)},
                      {"state", cluster::name(member.state)},
                      {"suspected", std::ranges::count(report.suspected, member.node) > 0},
                      {"life", member.incarnation.value},
                      {"parts", member.part_count},
                      {"part_bytes", member.part_bytes},
                      {"trunk_bytes", member.profile.trunk_bytes},
                      {"memory_bytes", member.profile.memory_bytes},
                      {"probed_bytes_per_second", member.profile.expert_bytes_per_second}};
    // Figures of a life that the Coordinator does not know (yet, or any more) would be taken for another's.
    const auto figures = picture.nodes.find(member.node);
    const bool answers = figures != picture.nodes.end() && figures->second.incarnation == member.incarnation;
    node["figures"] = answers ? json::value(figures_json(figures->second)) : json::value(nullptr);
    nodes.push_back(std::move(node));
  }
  json::object service;
  for (const auto& number : own.numbers) service[number.name] = number.value;
  for (const auto& spread : own.spreads) {
    service[spread.name] = json::object{{"count", spread.histogram.count()},
                                        {"sum_ns", spread.histogram.sum()},
                                        {"p50_ns", spread.quantile(0.5)},
                                        {"p99_ns", spread.quantile(0.99)}};
  }
  return json::serialize(json::object{{"at_ns", picture.at.time_since_epoch().count()},
                                      {"epoch", report.view->epoch.value},
                                      {"coordinator_reachable", report.coordinator_reachable},
                                      {"trouble", report.trouble},
                                      {"prediction", report.prediction},
                                      {"nodes", nodes},
                                      {"service", service}});
}

}  // namespace consort::cli
