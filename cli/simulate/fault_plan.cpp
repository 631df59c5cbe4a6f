#include "cli/simulate/fault_plan.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <sstream>

namespace consort::cli {

using runtime::ErrorKind;
using runtime::failure;
using runtime::NodeId;
using runtime::Outcome;
using runtime::SimProcess;

namespace {

constexpr double kSlowFactor = 10;
// Of random faults: shorter than suspicion to longer than death. A client gives a Batcher 5 s to accept a request.
constexpr runtime::Duration kShortest = std::chrono::milliseconds(50);
constexpr std::uint64_t kLongestMs = 4000;

struct Grammar {
  FaultKind kind;
  std::string_view word;
  bool has_other;
  bool has_time;
};
constexpr std::array<Grammar, 7> kGrammar{{{FaultKind::kCrash, "crash", false, false},
                                           {FaultKind::kPause, "pause", false, true},
                                           {FaultKind::kBreak, "break", true, false},
                                           {FaultKind::kPart, "part", true, true},
                                           {FaultKind::kStall, "stall", true, true},
                                           {FaultKind::kCorrupt, "corrupt", true, false},
                                           {FaultKind::kSlow, "slow", false, true}}};

const Grammar& grammar_of(FaultKind kind) { return *std::ranges::find(kGrammar, kind, &Grammar::kind); }

bool is_process(const ProcessList& processes, std::string_view name) {
  const auto all = processes.all();
  return std::ranges::find(all, name, &ProcessPlace::name) != all.end();
}

Outcome<Fault> parse_fault(const std::string& text, const ProcessList& processes) {
  const auto wrong = [&](const std::string& why) {
    return failure(ErrorKind::kInvalid, "fault plan: '" + text + "': " + why +
                                            "; say for example: crash garage at 1200; pause attic 1s at 2000");
  };
  std::istringstream words(text);
  std::string word, time, at, number;
  words >> word;
  const auto grammar = std::ranges::find(kGrammar, word, &Grammar::word);
  if (grammar == kGrammar.end()) return wrong("no fault is named '" + word + "'");
  Fault fault;
  fault.kind = grammar->kind;
  words >> fault.process;
  if (grammar->has_other) words >> fault.other;
  if (grammar->has_time) words >> time;
  words >> at >> number;
  if (!is_process(processes, fault.process)) return wrong("no process is named '" + fault.process + "'");
  if (grammar->has_other && !is_process(processes, fault.other))
    return wrong("no process is named '" + fault.other + "'");
  if (grammar->has_time) {
    const auto duration = cluster::parse_duration(time);
    if (!duration.ok()) return wrong(duration.error().text);
    fault.time = *duration;
  }
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), fault.event);
  if (at != "at" || error != std::errc{} || end != number.data() + number.size()) return wrong("'at N' is missing");
  return fault;
}

NodeId node_of(const SimCluster& cluster, std::string_view process) {
  const auto all = cluster.processes().all();
  const auto place = std::ranges::find(all, process, &ProcessPlace::name);
  CONSORT_CHECK(place != all.end(), process);
  return place->node;
}

void inflict_on_link(SimCluster& cluster, const Fault& fault) {
  runtime::World& world = cluster.world();
  runtime::SimNetwork& network = world.network();
  const NodeId from = node_of(cluster, fault.process);
  const NodeId to = node_of(cluster, fault.other);
  switch (fault.kind) {
    case FaultKind::kBreak:
      return network.break_between(from, to, {}, runtime::Wire::kData);
    case FaultKind::kStall:
      return network.stall(from, to, fault.time);
    case FaultKind::kCorrupt:
      return network.corrupt(from, to, 1);
    case FaultKind::kPart:
      network.part(from, to);
      network.part(to, from);
      world.at(world.now() + fault.time, [&network, from, to] {
        network.heal(from, to);
        network.heal(to, from);
      });
      return;
    default:
      CONSORT_CHECK(false, static_cast<int>(fault.kind));
  }
}

}  // namespace

Outcome<FaultPlan> FaultPlan::parse(std::string_view text, const ProcessList& processes) {
  FaultPlan plan;
  std::istringstream parts{std::string(text)};
  for (std::string part; std::getline(parts, part, ';');) {
    if (part.find_first_not_of(' ') == std::string::npos) continue;
    part.erase(0, part.find_first_not_of(' '));
    CONSORT_TRY(Fault fault, parse_fault(part, processes));
    plan.faults.push_back(std::move(fault));
  }
  return plan;
}

FaultPlan FaultPlan::random(std::uint64_t seed, const ProcessList& processes, std::uint64_t events) {
  runtime::Rng rng(seed ^ 0xFA017);  // apart from what the world draws from the same seed
  FaultPlan plan;
  const auto count = 1 + rng.below(3);
  for (std::uint64_t i = 0; i < count; ++i) {
    Fault fault;
    fault.kind = kGrammar[rng.below(kGrammar.size())].kind;
    const Grammar& grammar = grammar_of(fault.kind);
    const auto worker = rng.below(processes.workers.size());
    fault.process = processes.workers[worker].name;
    if (grammar.has_other) {
      fault.other =
          processes.workers[(worker + 1 + rng.below(processes.workers.size() - 1)) % processes.workers.size()].name;
    } else if (rng.below(4) == 0) {
      fault.process = processes.coordinator.name;
    }
    if (grammar.has_time) fault.time = kShortest + std::chrono::milliseconds(rng.below(kLongestMs));
    fault.event = rng.below(events);
    plan.faults.push_back(std::move(fault));
  }
  return plan;
}

std::string FaultPlan::describe() const {
  std::string text;
  for (const Fault& fault : faults) {
    const Grammar& grammar = grammar_of(fault.kind);
    if (!text.empty()) text += "; ";
    text += std::string(grammar.word) + " " + fault.process;
    if (grammar.has_other) text += " " + fault.other;
    if (grammar.has_time) text += " " + std::to_string(fault.time / std::chrono::milliseconds(1)) + "ms";
    text += " at " + std::to_string(fault.event);
  }
  return text;
}

void FaultPlan::lay(SimCluster& cluster) const {
  const std::uint64_t now = cluster.world().event_count();
  for (const Fault& fault : faults) {
    cluster.world().at_event(now + fault.event, [&cluster, fault] { inflict(cluster, fault); });
  }
}

void inflict(SimCluster& cluster, const Fault& fault) {
  if (grammar_of(fault.kind).has_other) return inflict_on_link(cluster, fault);
  SimProcess* process = cluster.process(fault.process);
  if (process == nullptr || !process->alive()) return;
  runtime::World& world = cluster.world();
  switch (fault.kind) {
    case FaultKind::kCrash:
      return world.crash(*process);
    case FaultKind::kPause:
      return world.pause(*process, fault.time);
    case FaultKind::kSlow:
      process->set_slowness(kSlowFactor);
      world.at(world.now() + fault.time, [process] { process->set_slowness(1); });
      return;
    default:
      CONSORT_CHECK(false, static_cast<int>(fault.kind));
  }
}

}  // namespace consort::cli
