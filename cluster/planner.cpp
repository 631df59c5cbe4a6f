// How the parts are spread, in four steps: how many bytes each node should hold (level_targets), which cut
// (choose_cut), who holds which part (Spreader), and what that promises (forecast).
#include "cluster/planner.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>

#include "cluster/spreader.hpp"
#include "runtime/env.hpp"

namespace consort::cluster {
namespace {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

// "auto" looks at cuts of up to four: beyond, a row travels to more nodes than it wins from (eight nodes: +51 % bytes).
constexpr std::uint32_t kMostAutoCuts = 4;
// A cut must promise this much, since it multiplies the messages and is never taken back.
constexpr double kWorthwhileGain = 0.10;
constexpr int kDraws = 512;             // routed rows per layer in the forecast; the mean is within about 2 %
constexpr std::uint64_t kDrawSeed = 1;  // the same for every cut, so that cuts are compared on equal rows

std::string in_bytes(std::uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) value /= 1024, ++unit;
  std::ostringstream text;
  text.precision(unit == 0 ? 0 : 2);
  text << std::fixed << value << ' ' << kUnits[unit];
  if (unit > 0) text << " (" << bytes << " bytes)";
  return text.str();
}

std::uint64_t room_of(const NodeProfile& profile) {
  return profile.memory_bytes > profile.trunk_bytes ? profile.memory_bytes - profile.trunk_bytes : 0;
}

std::vector<SizedPart> parts_of(const PlanModel& model, const std::vector<NumericPlan::Columns>& cut) {
  std::vector<SizedPart> parts;
  parts.reserve(model.expert_layers.size() * model.n_routed_experts * cut.size());
  for (const std::uint32_t layer : model.expert_layers) {
    for (std::uint32_t expert = 0; expert < model.n_routed_experts; ++expert) {
      for (const auto& columns : cut) {
        const PartId part{layer, kRoutedExpertPart, expert, columns.first, columns.count};
        parts.push_back({part, model.part_bytes(part)});
      }
    }
  }
  return parts;
}

// One row of one layer after the other: experts drawn evenly, each part computed by the replica that would end first,
// as Routers choose. A layer takes as long as its slowest node: its parts' bytes at its speed, plus the way there and
// back for one row, which is nothing for the trunk's own node; the trunk nodes take turns.
class TokenForecast {
 public:
  explicit TokenForecast(const PlanRequest& request) : request_(request), rng_(kDrawSeed) {
    for (std::size_t n = 0; n < request.nodes.size(); ++n) {
      index_[request.nodes[n].node] = n;
      if (request.nodes[n].profile.trunk_bytes > 0) trunks_.push_back(n);
    }
  }

  double layer_seconds(const PlacementTable& placement, std::uint32_t layer) {
    const PlanModel& model = request_.model;
    std::vector<std::vector<const PlacementTable::value_type*>> experts(model.n_routed_experts);
    const auto first = placement.lower_bound(PartId{layer, 0, 0, 0, 0});
    for (auto at = first; at != placement.end() && at->first.layer == layer; ++at) {
      experts[at->first.index].push_back(&*at);
    }
    const std::uint32_t chosen = std::min(std::max(model.num_experts_per_tok, 1u), model.n_routed_experts);
    std::vector<std::uint32_t> order(model.n_routed_experts);
    std::iota(order.begin(), order.end(), 0u);
    double sum = 0;
    for (int draw = 0; draw < kDraws; ++draw) {
      begin_row(draw);
      for (std::uint32_t k = 0; k < chosen; ++k) {
        std::swap(order[k], order[k + rng_.below(order.size() - k)]);
        for (const auto* part : experts[order[k]])
          add(part->second, static_cast<double>(model.part_bytes(part->first)));
      }
      sum += slowest();
    }
    return sum / kDraws;
  }

 private:
  void begin_row(int draw) {
    own_ = trunks_.empty() ? request_.nodes.size() : trunks_[static_cast<std::size_t>(draw) % trunks_.size()];
    busy_.assign(request_.nodes.size(), 0);
    answers_.assign(request_.nodes.size(), 0);
  }

  double way(std::size_t node, int answers) const {
    if (node == own_) return 0;
    const NodeProfile& profile = request_.nodes[node].profile;
    const double row_bytes = 4.0 * request_.model.hidden_size;
    const double travel =
        profile.link_bytes_per_second > 0 ? (1 + answers) * row_bytes / profile.link_bytes_per_second : 0;
    return 2 * profile.link_delay_seconds + travel;
  }

  void add(const std::vector<runtime::NodeId>& holders, double bytes) {
    std::size_t best = request_.nodes.size();
    double best_end = 0;
    for (const auto holder : holders) {
      const std::size_t n = index_.at(holder);
      const double end = busy_[n] + bytes / request_.nodes[n].profile.expert_bytes_per_second + way(n, answers_[n] + 1);
      if (best < request_.nodes.size() && end >= best_end) continue;
      best = n;
      best_end = end;
    }
    busy_[best] += bytes / request_.nodes[best].profile.expert_bytes_per_second;
    ++answers_[best];
  }

  double slowest() const {
    double longest = 0;
    for (std::size_t n = 0; n < busy_.size(); ++n) {
      if (answers_[n] > 0) longest = std::max(longest, busy_[n] + way(n, answers_[n]));
    }
    return longest;
  }

  const PlanRequest& request_;
  runtime::Rng rng_;
  std::map<runtime::NodeId, std::size_t> index_;
  std::vector<std::size_t> trunks_;
  std::size_t own_ = 0;  // whose row it is; the node count: nobody's here
  std::vector<double> busy_;
  std::vector<int> answers_;
};

double seconds_per_token(const PlanRequest& request, const PlacementTable& placement) {
  if (request.model.n_routed_experts == 0) return 0;
  TokenForecast forecast(request);
  double total = 0;
  for (const std::uint32_t layer : request.model.expert_layers) total += forecast.layer_seconds(placement, layer);
  return total;
}

std::string sentence(const PlanRequest& request, const Plan& plan) {
  std::ostringstream text;
  text.precision(3);
  text << plan.placement.size() << " parts (experts cut in " << plan.numeric.cut.size() << "), " << request.replicas
       << (request.replicas == 1 ? " replica: " : " replicas: ");
  for (std::size_t n = 0; n < request.nodes.size(); ++n) {
    const NodeForecast& node = plan.forecast.nodes[n];
    text << (n == 0 ? "" : ", ") << request.nodes[n].name << " holds " << node.part_count << " ("
         << std::lround(node.byte_share * 100) << " %)";
  }
  text << "; a token's experts take about " << plan.forecast.expert_seconds_per_token * 1e3 << " ms";
  return text.str();
}

PlanForecast forecast(const PlanRequest& request, const std::vector<SizedPart>& parts, const Plan& plan,
                      const std::vector<double>& targets) {
  PlanForecast out;
  std::map<runtime::NodeId, std::size_t> index;
  for (const PlanNode& node : request.nodes) {
    index[node.node] = out.nodes.size();
    out.nodes.push_back({node.node, 0, 0, 0, 0, 0});
  }
  double all = 0;
  double all_first = 0;
  for (const SizedPart& part : parts) {
    const auto& holders = plan.placement.at(part.id);
    for (const auto holder : holders) {
      NodeForecast& node = out.nodes[index.at(holder)];
      ++node.part_count;
      node.part_bytes += part.bytes;
      all += static_cast<double>(part.bytes);
    }
    out.nodes[index.at(holders.front())].first_choice_share += static_cast<double>(part.bytes);
    all_first += static_cast<double>(part.bytes);
  }
  for (std::size_t n = 0; n < out.nodes.size(); ++n) {
    NodeForecast& node = out.nodes[n];
    const double speed = request.nodes[n].profile.expert_bytes_per_second;
    node.load_seconds = static_cast<double>(node.part_bytes) / speed;
    node.byte_share = all > 0 ? static_cast<double>(node.part_bytes) / all : 0;
    node.first_choice_share = all_first > 0 ? node.first_choice_share / all_first : 0;
    out.worst_load_seconds = std::max(out.worst_load_seconds, node.load_seconds);
    out.best_load_seconds = std::max(out.best_load_seconds, targets[n] / speed);
  }
  out.expert_seconds_per_token = seconds_per_token(request, plan.placement);
  return out;
}

Outcome<Plan> plan_with_cut(const PlanRequest& request, NumericPlan numeric) {
  const std::vector<SizedPart> parts = parts_of(request.model, numeric.cut);
  std::uint64_t once = 0;
  for (const SizedPart& part : parts) once += part.bytes;

  std::vector<SpreadNode> nodes;
  std::uint64_t usable = 0;  // no node holds a part twice
  std::string offers;
  for (const PlanNode& node : request.nodes) {
    const std::uint64_t room = room_of(node.profile);
    nodes.push_back({node.node, node.profile.expert_bytes_per_second, room});
    usable += std::min(room, once);
    offers += (offers.empty() ? "" : ", ") + node.name + " " + in_bytes(room);
  }
  const std::uint64_t wanted = once * request.replicas;
  const auto what = [&] {
    return std::to_string(request.replicas) + (request.replicas == 1 ? " replica" : " replicas") + " of all experts";
  };
  if (wanted > usable) {
    return failure(ErrorKind::kInvalid,
                   what() + " need " + in_bytes(wanted) + " beside the trunk; the experts nodes can hold " +
                       in_bytes(usable) + " of that (" + offers + "), so " + in_bytes(wanted - usable) +
                       " are missing. Give nodes more memory, add nodes with the role experts, or lower replicas");
  }
  const std::vector<double> targets = level_targets(nodes, once, request.replicas);
  auto placed = spread(parts, nodes, targets, request.replicas, request.existing);
  if (!placed.ok()) {
    return failure(ErrorKind::kInvalid, what() + " need " + in_bytes(wanted) +
                                            " beside the trunk, and though the experts nodes have room for " +
                                            in_bytes(usable) + " (" + offers + "), the last parts do not fit: " +
                                            placed.error().text + ". Give nodes a little more memory");
  }
  Plan plan;
  plan.numeric = std::move(numeric);
  plan.placement = std::move(placed).value();
  plan.forecast = forecast(request, parts, plan, targets);
  plan.forecast.sentence = sentence(request, plan);
  return plan;
}

Outcome<Plan> plan_with_count(const PlanRequest& request, std::uint32_t count) {
  NumericPlan numeric;
  CONSORT_TRY(numeric.cut, cut_columns(request.model.moe_intermediate_size, request.model.column_unit, count));
  return plan_with_cut(request, std::move(numeric));
}

// "auto": every cut up to the number of nodes, at most four, is planned and predicted; the smallest that comes within
// reach of the fastest is taken, and none at all unless it promises a tenth.
Outcome<Plan> plan_with_best_cut(const PlanRequest& request) {
  const std::uint32_t units = std::max(1u, request.model.moe_intermediate_size / request.model.column_unit);
  const auto most = std::min({static_cast<std::uint32_t>(request.nodes.size()), kMostAutoCuts, units});
  auto best = plan_with_count(request, 1);
  for (std::uint32_t count = 2; count <= most; ++count) {
    auto cut = plan_with_count(request, count);
    if (!cut.ok()) continue;
    const bool better = !best.ok() || cut->forecast.expert_seconds_per_token <
                                          best->forecast.expert_seconds_per_token * (1 - kWorthwhileGain);
    if (better) best = std::move(cut);
  }
  return best;
}

Status check(const PlanRequest& request) {
  const auto invalid = [](std::string text) { return failure(ErrorKind::kInvalid, std::move(text)); };
  if (request.nodes.empty()) return invalid("no node with the role experts is there");
  if (request.replicas == 0) return invalid("replicas must be 1 or more");
  if (request.nodes.size() < request.replicas) {
    return invalid(std::to_string(request.replicas) + " replicas need as many experts nodes, there are " +
                   std::to_string(request.nodes.size()) + ": two replicas on one node are lost together");
  }
  for (const PlanNode& node : request.nodes) {
    const double speed = node.profile.expert_bytes_per_second;
    if (!std::isfinite(speed) || speed <= 0) return invalid("node " + node.name + " has not measured its speed");
  }
  if (request.model.moe_intermediate_size == 0 || request.model.column_unit == 0 || !request.model.part_bytes) {
    return invalid("the model has no experts to place");
  }
  return runtime::done();
}

}  // namespace

Outcome<std::vector<NumericPlan::Columns>> cut_columns(std::uint32_t columns, std::uint32_t unit, std::uint32_t count) {
  CONSORT_CHECK(columns > 0 && unit > 0);
  const std::uint32_t units = std::max(1u, columns / unit);
  if (count == 0 || count > units) {
    return failure(ErrorKind::kInvalid, "an expert of " + std::to_string(columns) + " columns can be cut into 1 to " +
                                            std::to_string(units) + " parts (multiples of " + std::to_string(unit) +
                                            " columns), not into " + std::to_string(count));
  }
  std::vector<NumericPlan::Columns> cut;
  std::uint32_t first = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t width = (units / count + (i < units % count ? 1 : 0)) * unit;
    cut.push_back({first, width});
    first += width;
  }
  cut.back().count = columns - cut.back().first;
  return cut;
}

Outcome<Plan> make_plan(const PlanRequest& request) {
  CONSORT_RETURN_IF_ERROR(check(request));
  if (request.numeric_plan) {
    const auto& cut = request.numeric_plan->cut;
    if (cut.empty() || cut.back().first + cut.back().count != request.model.moe_intermediate_size) {
      return failure(ErrorKind::kInvalid, "the numeric plan cuts experts of another width than this model's " +
                                              std::to_string(request.model.moe_intermediate_size) + " columns");
    }
    return plan_with_cut(request, *request.numeric_plan);
  }
  switch (request.columns.kind) {
    case ColumnMode::Kind::kNever:
      return plan_with_count(request, 1);
    case ColumnMode::Kind::kFixed:
      return plan_with_count(request, request.columns.count);
    case ColumnMode::Kind::kAuto:
      break;
  }
  return plan_with_best_cut(request);
}

}  // namespace consort::cluster
