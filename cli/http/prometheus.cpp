#include "cli/http/prometheus.hpp"

#include <algorithm>
#include <cstdio>
#include <map>
#include <utility>
#include <vector>

namespace consort::cli {

namespace {

// Buckets below 1 ms and above 275 s are left out: a token takes longer, a request ends sooner.
constexpr std::size_t kFirstBucket = 20;

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') out += '\\';
    out += c;
  }
  return out;
}

std::string seconds(double nanoseconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", nanoseconds / 1e9);
  return text;
}

// One metric with its series. Families without a series are left out.
class Family {
 public:
  using Labels = std::vector<std::pair<std::string_view, std::string>>;
  Family(std::string& out, std::string_view name, std::string_view kind, std::string_view help)
      : out_(out), name_(name), kind_(kind), help_(help) {}
  void add(const Labels& labels, std::string value) {
    if (!std::exchange(has_head_, true)) {
      ((((out_ += "# HELP ") += name_) += " ") += help_) += "\n";
      ((((out_ += "# TYPE ") += name_) += " ") += kind_) += "\n";
    }
    out_ += name_;
    char before = '{';
    for (const auto& [key, text] : labels) {
      ((((out_ += std::exchange(before, ',')) += key) += "=\"") += escaped(text)) += "\"";
    }
    if (!labels.empty()) out_ += '}';
    ((out_ += " ") += value) += "\n";
  }
  void add(const Labels& labels, std::uint64_t value) { add(labels, std::to_string(value)); }

 private:
  std::string& out_;
  const std::string_view name_, kind_, help_;
  bool has_head_ = false;
};

std::string ratio(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

std::string seconds(std::uint64_t nanoseconds) { return seconds(static_cast<double>(nanoseconds)); }

// A figure of every node that tells it, as a family of its own.
struct NodeFamily {
  std::string_view figure;
  std::string_view name;
  std::string_view kind;
  std::string_view help;
  bool is_time = false;
};
constexpr NodeFamily kNodeFamilies[] = {
    {cluster::figure::kComputations, "consort:expert_computations_total", "counter",
     "Dispatches that a node computed."},
    {cluster::figure::kPartRows, "consort:expert_rows_computed_total", "counter", "Rows of expert parts computed."},
    {cluster::figure::kPartBytesRead, "consort:expert_bytes_read_total", "counter", "Expert weights read to compute."},
    {cluster::figure::kPartBusyNs, "consort:expert_busy_seconds_total", "counter", "Time spent computing experts.",
     true},
    {cluster::figure::kSteps, "consort:steps_total", "counter", "Steps of a trunk node."},
    {cluster::figure::kStepRows, "consort:step_rows_total", "counter", "Rows of these steps: prompt and new tokens."},
    {cluster::figure::kTokens, "consort:sampled_tokens_total", "counter", "Tokens sampled by a trunk node."},
    {cluster::figure::kStepNs, "consort:step_seconds_total", "counter", "Time that steps took.", true},
    {cluster::figure::kDispatches, "consort:dispatches_total", "counter", "Messages to nodes that hold parts."},
    {cluster::figure::kReplays, "consort:replays_total", "counter", "Dispatches repeated for a lost or silent node."},
    {cluster::figure::kHedges, "consort:hedges_total", "counter", "Dispatches repeated for a late node."},
    {cluster::figure::kLateAnswers, "consort:late_answers_total", "counter", "Answers dropped: another came first."},
    {cluster::figure::kWaitingRows, "consort:waiting_rows_total", "counter",
     "Rows given back without all their parts."},
    {cluster::figure::kPagesTotal, "consort:kv_pages", "gauge", "KV pages of a trunk node."},
    {cluster::figure::kPagesUsed, "consort:kv_pages_used", "gauge", "KV pages in use, over all trunk nodes."},
    {cluster::figure::kPagesCached, "consort:kv_pages_cached", "gauge", "KV pages kept for prompts to come."},
    {cluster::figure::kRunning, "consort:batch_running", "gauge", "Requests that hold pages."},
    {cluster::figure::kQueued, "consort:batch_queued", "gauge", "Requests that wait for pages."},
    {cluster::figure::kDecoderMoves, "consort:decoder_moves_total", "counter", "Requests prefilled again elsewhere."},
};
// Where the time of steps went.
constexpr std::pair<std::string_view, std::string_view> kPhases[] = {
    {cluster::figure::kAttentionNs, "attention"}, {cluster::figure::kSharedNs, "shared"},
    {cluster::figure::kCombineNs, "combine"},     {cluster::figure::kHeadNs, "head"},
    {cluster::figure::kDispatchNs, "dispatch"},   {cluster::figure::kExpertsNs, "experts"},
    {cluster::figure::kWaitNs, "wait"},
};

}  // namespace

std::string prometheus_text(const runtime::MetricsSnapshot& snapshot, std::string_view model) {
  const std::string label = "model_name=\"" + escaped(model) + "\"";
  std::string text;
  std::string last_family;
  const auto type = [&](std::string_view family, std::string_view kind) {
    if (family == last_family) return;
    last_family = family;
    text += "# TYPE " + last_family + " ";
    (text += kind) += "\n";
  };
  for (const auto& number : snapshot.numbers) {
    const std::string_view name = number.name;
    const std::size_t brace = name.find('{');
    const std::string family(name.substr(0, brace));
    type(family, family.ends_with("_total") ? "counter" : "gauge");
    const std::string own =
        brace == std::string_view::npos ? "" : "," + std::string(name.substr(brace + 1, name.size() - brace - 2));
    text += family + "{" + label + own + "} " + std::to_string(number.value) + "\n";
  }
  for (const auto& spread : snapshot.spreads) {
    type(spread.name, "histogram");
    const auto& buckets = spread.histogram.buckets();
    std::uint64_t below = 0;
    for (std::size_t i = 0; i + 1 < buckets.size(); ++i) {
      below += buckets[i];
      if (i < kFirstBucket) continue;
      text += spread.name + "_bucket{" + label + ",le=\"" + seconds(static_cast<double>(std::uint64_t{1} << i)) +
              "\"} " + std::to_string(below) + "\n";
    }
    const std::string count = std::to_string(spread.histogram.count());
    text += spread.name + "_bucket{" + label + ",le=\"+Inf\"} " + count + "\n";
    text += spread.name + "_sum{" + label + "} " + seconds(static_cast<double>(spread.histogram.sum())) + "\n";
    text += spread.name + "_count{" + label + "} " + count + "\n";
  }
  return text;
}

std::string prometheus_text(const cluster::ClusterPicture& picture, std::string_view model) {
  const cluster::ClusterView& view = *picture.report.view;
  std::string text;
  const auto name_of = [&](runtime::NodeId node) {
    const cluster::Member* member = view.find(node);
    return member == nullptr ? std::to_string(node.value) : member->name;
  };
  const auto sum = [&](std::string_view figure) {
    std::uint64_t all = 0;
    for (const auto& [node, figures] : picture.nodes) all += figures.value(figure);
    return all;
  };
  const Family::Labels of_model{{"model_name", std::string(model)}};
  if (const std::uint64_t pages = sum(cluster::figure::kPagesTotal); pages > 0) {
    Family(text, "vllm:kv_cache_usage_perc", "gauge", "Share of KV pages in use, 0 to 1.")
        .add(of_model, ratio(static_cast<double>(sum(cluster::figure::kPagesUsed)) / static_cast<double>(pages)));
  }
  static constexpr NodeFamily kVllm[] = {
      {cluster::figure::kPrefixQueries, "vllm:prefix_cache_queries_total", "counter", "Prompt tokens looked up."},
      {cluster::figure::kPrefixHits, "vllm:prefix_cache_hits_total", "counter", "Prompt tokens found in the cache."},
      {cluster::figure::kPreemptions, "vllm:num_preemptions_total", "counter", "Requests that gave their pages up."}};
  for (const NodeFamily& family : kVllm) {
    const bool told = std::ranges::any_of(picture.nodes, [&](const auto& entry) {
      return std::ranges::any_of(entry.second.numbers, [&](const auto& n) { return n.first == family.figure; });
    });
    if (told) Family(text, family.name, family.kind, family.help).add(of_model, sum(family.figure));
  }

  Family(text, "consort:coordinator_up", "gauge", "1: the Coordinator answers.")
      .add({}, picture.report.coordinator_reachable ? 1 : 0);
  Family(text, "consort:epoch", "gauge", "Of the placement in force.").add({}, view.epoch.value);
  Family up(text, "consort:node_up", "gauge", "1: the node is ready and heard.");
  for (const auto& member : view.members) {
    const bool is_up = view.serves(member.node) && std::ranges::count(picture.report.suspected, member.node) == 0;
    up.add({{"node", member.name}}, is_up ? 1 : 0);
  }
  Family life(text, "consort:node_life", "gauge", "The node's incarnation: how often it was started.");
  for (const auto& member : view.members) life.add({{"node", member.name}}, member.incarnation.value);
  Family held(text, "consort:held_bytes", "gauge", "Weights, and KV pages with the trunk's, that a node holds.");
  for (const auto& member : view.members) {
    held.add({{"node", member.name}, {"kind", "experts"}}, member.part_bytes);
    held.add({{"node", member.name}, {"kind", "trunk"}}, member.profile.trunk_bytes);
  }
  Family probed(text, "consort:probed_bytes_per_second", "gauge", "Expert weights per second, measured at start.");
  for (const auto& member : view.members) {
    if (member.profile.expert_bytes_per_second > 0)
      probed.add({{"node", member.name}}, ratio(member.profile.expert_bytes_per_second));
  }

  for (const NodeFamily& family : kNodeFamilies) {
    Family out(text, family.name, family.kind, family.help);
    for (const auto& [node, figures] : picture.nodes) {
      for (const auto& [name, value] : figures.numbers) {
        if (name != family.figure) continue;
        out.add({{"node", name_of(node)}}, family.is_time ? seconds(value) : std::to_string(value));
      }
    }
  }
  Family phases(text, "consort:step_phase_seconds_total", "counter", "Where the time of steps went.");
  for (const auto& [node, figures] : picture.nodes) {
    if (figures.value(cluster::figure::kSteps) == 0) continue;
    for (const auto& [figure, phase] : kPhases) {
      phases.add({{"node", name_of(node)}, {"phase", std::string(phase)}}, seconds(figures.value(figure)));
    }
  }
  using Edge = cluster::NodeFigures::Edge;
  const auto edges = [&](std::string_view name, std::string_view help, auto value) {
    Family out(text, name, "counter", help);
    for (const auto& [node, figures] : picture.nodes) {
      for (const Edge& edge : figures.edges) {
        out.add({{"node", name_of(node)}, {"peer", name_of(edge.peer)}}, value(edge));
      }
    }
  };
  edges("consort:edge_dispatches_total", "Dispatches from a trunk node to one with parts.",
        [](const Edge& e) { return e.dispatches; });
  edges("consort:edge_answers_total", "Answers to them.", [](const Edge& e) { return e.answers; });
  edges("consort:edge_sent_bytes_total", "Bytes of rows sent.", [](const Edge& e) { return e.sent_bytes; });
  edges("consort:edge_round_trip_seconds_total", "Time from dispatch to answer, of all answers together.",
        [](const Edge& e) { return seconds(e.round_trip_ns); });
  edges("consort:edge_wait_seconds_total", "Time that steps stood still for this edge, besides experts' computing.",
        [](const Edge& e) { return seconds(e.wait_ns); });

  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint64_t> rows;
  for (const auto& [node, figures] : picture.nodes) {
    for (const auto& load : figures.loads) {
      for (std::uint32_t expert = 0; expert < load.rows.size(); ++expert) {
        if (load.rows[expert] > 0) rows[{load.layer, expert}] += load.rows[expert];
      }
    }
  }
  Family experts(text, "consort:expert_rows_total", "counter", "Rows that tokens sent to an expert.");
  for (const auto& [at, count] : rows) {
    experts.add({{"layer", std::to_string(at.first)}, {"expert", std::to_string(at.second)}}, count);
  }
  return text;
}

}  // namespace consort::cli
