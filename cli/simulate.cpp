// `consort simulate`: a cluster file, a seed and a fault plan in virtual time; a line per event of interest.
// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>
#include <cstdio>
#include <map>
#include <sstream>

#include "cli/commands.hpp"
#include "cli/ids_text.hpp"
#include "cli/simulate/fault_plan.hpp"
#include "cli/simulate/scenario.hpp"

namespace consort::cli {
namespace {

const char* const kDefaultIds = "3,1,4,1,5,9,2,6";

double seconds(runtime::Instant time) { return std::chrono::duration<double>(time.time_since_epoch()).count(); }

// Prints what people want to see happen: lives, states, suspicion, replays, ends.
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
    runtime::SimProcess& process = cluster_.world().process(event.process);
    if (event.kind == runtime::SimEventKind::kStart) say(process.name() + " starts");
    if (event.kind == runtime::SimEventKind::kExit) say(process.name() + " hears that a child ended");
    look_at_processes();
    look_at_view();
    look_at_requests();
    if (Worker* worker = process.alive() ? cluster_.worker(process.name()) : nullptr)
      look_at_worker(process.name(), *worker);
  }

 private:
  struct Seen {
    std::uint64_t replays = 0;
    std::uint64_t hedges = 0;
    std::uint64_t moves = 0;
    std::set<runtime::NodeId> suspected;
  };

  // Faults fall between events; what they did shows at the next one.
  void look_at_processes() {
    for (std::size_t i = 0; i < cluster_.world().process_count(); ++i) {
      const runtime::SimProcess& process = cluster_.world().process(static_cast<std::uint32_t>(i));
      auto& [ended, paused] = states_[i];
      if (process.ended() && !ended) say(process.name() + " ended: " + process.end_reason());
      if (process.paused() != paused && !process.ended())
        say(process.name() + (process.paused() ? " is stopped" : " goes on"));
      ended = process.ended();
      paused = process.paused();
    }
  }

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

  void look_at_worker(const std::string& name, const Worker& worker) {
    Seen& seen = seen_[name];
    const auto tell = [&](std::uint64_t now, std::uint64_t& before, const char* what) {
      if (now > before) say(name + what + std::to_string(now - before));
      before = now;
    };
    tell(worker.router_counters().replays, seen.replays, ": dispatches replayed elsewhere: ");
    tell(worker.router_counters().hedges, seen.hedges, ": late dispatches asked for elsewhere: ");
    tell(worker.batcher_counters().decoder_moves, seen.moves, ": requests that go to another Decoder: ");
    if (worker.suspected() == seen.suspected) return;
    for (const auto& place : cluster_.processes().workers) {
      const bool now = worker.suspected().contains(place.node);
      if (now != seen.suspected.contains(place.node)) say(name + (now ? " suspects " : " hears again ") + place.name);
    }
    seen.suspected = worker.suspected();
  }

  void look_at_requests() {
    ends_.resize(cluster_.generation_count(), false);
    for (std::size_t g = 0; g < ends_.size(); ++g) {
      const SimGeneration& generation = cluster_.generation(g);
      if (ends_[g] || !generation.end) continue;
      ends_[g] = true;
      say("request " + std::to_string(g) + " ended after " + std::to_string(generation.tokens.size()) +
          " tokens: " + std::string(actors::name(generation.end->reason)) +
          (generation.end->text.empty() ? "" : ", " + generation.end->text));
    }
  }

  SimCluster& cluster_;
  const bool json_;
  cluster::ClusterViewPtr last_;
  std::map<std::size_t, std::pair<bool, bool>> states_;
  std::map<std::string, Seen> seen_;
  std::vector<bool> ends_;
};

void print_generation(std::size_t number, const SimGeneration& generation, bool json) {
  std::string ids, crcs;
  for (const auto& token : generation.tokens) {
    ids += (ids.empty() ? "" : ",") + std::to_string(token.id);
    crcs += (crcs.empty() ? "" : ",") + std::to_string(token.logits_crc);
  }
  const std::string reason = generation.end ? std::string(actors::name(generation.end->reason)) : "no end";
  if (json) {
    const boost::json::object line{{"request", number},
                                   {"end", reason},
                                   {"ids", ids},
                                   {"logits_crc", crcs},
                                   {"why", generation.end ? generation.end->text : ""}};
    std::printf("%s\n", boost::json::serialize(line).c_str());
  } else {
    std::printf("request %zu: %s%s%s\n  ids        %s\n  logits_crc %s\n", number, reason.c_str(),
                generation.end && !generation.end->text.empty() ? ": " : "",
                generation.end ? generation.end->text.c_str() : "", ids.c_str(), crcs.c_str());
  }
}

// One request per prompt of --ids, or --requests of the only one.
runtime::Outcome<std::vector<actors::GenerationRequest>> requests_of(const SimulateOptions& options) {
  std::vector<actors::GenerationRequest> requests;
  std::istringstream prompts(options.ids.empty() ? kDefaultIds : options.ids);
  for (std::string prompt; std::getline(prompts, prompt, ';');) {
    CONSORT_TRY(const auto ids, parse_ids(prompt));
    actors::GenerationRequest& request = requests.emplace_back();
    request.prompt.assign(ids.begin(), ids.end());
    request.sampling.temperature = 0;
    request.max_new_tokens = static_cast<std::uint32_t>(options.max_new_tokens);
  }
  if (requests.size() == 1) {
    const auto one = requests.front();
    requests.resize(static_cast<std::size_t>(std::max(options.requests, 1)), one);
  }
  return requests;
}

}  // namespace

// The run without faults comes first, unseen: what the checkers hold the tokens against.
int run_simulate(const SimulateOptions& options) {
  auto config = cluster::read_cluster_config(options.cluster_file);
  if (!config.ok()) return wrong_use(config.error().text);
  const auto processes = ProcessList::of(*config);
  if (!processes.ok()) return wrong_use(processes.error().text);
  auto requests = requests_of(options);
  if (!requests.ok()) return wrong_use(requests.error().text);
  const auto plan = FaultPlan::parse(options.faults, *processes);
  if (!plan.ok()) return wrong_use(plan.error().text);
  auto model = SimModel::load(config->model);
  if (!model.ok()) return wrong_use(model.error().text);

  SimClusterOptions cluster_options;
  cluster_options.config = std::move(config).value();
  const std::size_t asked = requests->size();
  const Scenario scenario(std::move(cluster_options), std::move(model).value(), std::move(requests).value());
  std::optional<ScenarioRun> fault_free;
  if (!plan->faults.empty()) fault_free = scenario.run(options.seed, {}, nullptr);
  std::optional<Reporter> reporter;
  const ScenarioRun run =
      scenario.run(options.seed, *plan, fault_free ? &*fault_free : nullptr, [&](SimCluster& cluster) {
        reporter.emplace(cluster, options.json);
        cluster.world().add_observer([&](const runtime::SimEvent& event) { reporter->look(event); });
      });
  bool complete = run.violations.empty();
  for (std::size_t i = 0; i < run.generations.size() && i < asked; ++i) {
    print_generation(i, run.generations[i], options.json);
    complete = complete && run.generations[i].end && run.generations[i].end->reason == actors::EndReason::kLength;
  }
  for (const Violation& violation : run.violations) {
    std::fprintf(stderr, "event %lu: checker \"%s\": %s\n", violation.event, violation.checker.c_str(),
                 violation.text.c_str());
  }
  std::printf(options.json ? "{\"first_event\":%lu,\"trace_hash\":\"%016lx\",\"events\":%lu}\n"
                           : "requests began after event %lu; trace hash %016lx after %lu events\n",
              run.first_event, run.trace_hash, run.all_events);
  return complete ? kExitOk : kExitFailed;
}

}  // namespace consort::cli
