// `consort simulate`: a cluster file, a seed and a fault plan in virtual time; a line per event of interest.
// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>
#include <cstdio>

#include "cli/commands.hpp"
#include "cli/ids_text.hpp"
#include "cli/simulate/fault_plan.hpp"
#include "cli/simulate/sim_cluster.hpp"

namespace consort::cli {
namespace {

const char* const kDefaultIds = "3,1,4,1,5,9,2,6";

double seconds(runtime::Instant time) { return std::chrono::duration<double>(time.time_since_epoch()).count(); }

// Prints what people want to see happen: lives, states, losses, ends.
class Reporter {
 public:
  Reporter(SimCluster& cluster, bool json) : cluster_(cluster), json_(json) {}

  void say(const std::string& text) const {
    const runtime::World& world = cluster_.world();
    if (json_) {
      const boost::json::object line{{"seconds", seconds(world.now())}, {"event", world.event_count()}, {"what", text}};
      std::printf("%s\n", boost::json::serialize(line).c_str());
    } else {
      std::printf("%10.6f s  event %-8lu %s\n", seconds(world.now()), world.event_count(), text.c_str());
    }
  }

  void look(const runtime::SimEvent& event) {
    if (event.kind == runtime::SimEventKind::kStart) say(cluster_.world().process(event.process).name() + " starts");
    if (event.kind == runtime::SimEventKind::kExit) say("an agent hears that a child ended");
    look_at_view();
  }

 private:
  void look_at_view() {
    const auto& place = cluster_.processes().workers[cluster_.config().batcher_index()];
    const auto view = cluster_.view_of(place.name);
    if (view == nullptr || view == last_) return;
    for (const auto& member : view->members) {
      const auto* before = last_ == nullptr ? nullptr : last_->find(member.node);
      if (before != nullptr && before->state == member.state && before->incarnation == member.incarnation) continue;
      say(member.name + " is " + std::string(cluster::name(member.state)) + ", life " +
          std::to_string(member.incarnation.value) + ", epoch " + std::to_string(view->epoch.value));
    }
    last_ = view;
  }

  SimCluster& cluster_;
  const bool json_;
  cluster::ClusterViewPtr last_;
};

void print_generation(std::size_t number, const SimGeneration& generation, bool json) {
  std::string ids, crcs;
  for (const auto& token : generation.tokens) {
    ids += (ids.empty() ? "" : ",") + std::to_string(token.id);
    crcs += (crcs.empty() ? "" : ",") + std::to_string(token.logits_crc);
  }
  const std::string reason = generation.end ? std::string(actors::name(generation.end->reason)) : "no end";
  if (json) {
    const boost::json::object line{{"request", number}, {"end", reason}, {"ids", ids}, {"logits_crc", crcs},
                                   {"why", generation.end ? generation.end->text : ""}};
    std::printf("%s\n", boost::json::serialize(line).c_str());
  } else {
    std::printf("request %zu: %s%s%s\n  ids        %s\n  logits_crc %s\n", number, reason.c_str(),
                generation.end && !generation.end->text.empty() ? ": " : "",
                generation.end ? generation.end->text.c_str() : "", ids.c_str(), crcs.c_str());
  }
}

}  // namespace

int run_simulate(const SimulateOptions& options) {
  auto config = cluster::read_cluster_config(options.cluster_file);
  if (!config.ok()) return wrong_use(config.error().text);
  const auto processes = ProcessList::of(*config);
  if (!processes.ok()) return wrong_use(processes.error().text);
  const auto ids = parse_ids(options.ids.empty() ? kDefaultIds : options.ids);
  if (!ids.ok()) return wrong_use(ids.error().text);
  const auto plan = FaultPlan::parse(options.faults, *processes);
  if (!plan.ok()) return wrong_use(plan.error().text);
  auto model = SimModel::load(config->model);
  if (!model.ok()) return wrong_use(model.error().text);

  SimClusterOptions cluster_options;
  cluster_options.config = std::move(config).value();
  cluster_options.seed = options.seed;
  SimCluster cluster(std::move(cluster_options), std::move(model).value());
  Reporter reporter(cluster, options.json);
  cluster.world().add_observer([&](const runtime::SimEvent& event) { reporter.look(event); });
  if (const auto up = cluster.bring_up(); !up.ok()) return job_failed(up.error().text);
  reporter.say("a token has crossed every node; requests start, fault events count from here");
  plan->lay(cluster);
  actors::GenerationRequest request;
  request.prompt.assign(ids->begin(), ids->end());
  request.sampling.temperature = 0;
  request.max_new_tokens = static_cast<std::uint32_t>(options.max_new_tokens);
  for (int i = 0; i < options.requests; ++i) cluster.start(request);
  const auto end = cluster.run_to_end();
  reporter.say(end.ok() ? "every request has ended" : end.error().text);
  bool complete = end.ok();
  for (std::size_t i = 0; i < cluster.generation_count(); ++i) {
    const SimGeneration& generation = cluster.generation(i);
    print_generation(i, generation, options.json);
    complete = complete && generation.end && generation.end->reason == actors::EndReason::kLength;
  }
  std::printf(options.json ? "{\"trace_hash\":\"%016lx\",\"events\":%lu}\n" : "trace hash %016lx after %lu events\n",
              cluster.world().trace_hash(), cluster.world().event_count());
  return complete ? kExitOk : kExitFailed;
}

}  // namespace consort::cli
