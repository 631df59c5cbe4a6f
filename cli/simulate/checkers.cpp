#include "cli/simulate/checkers.hpp"

#include <algorithm>

namespace consort::cli {

using runtime::Incarnation;
using runtime::NodeId;
using runtime::SimEvent;
using runtime::SimEventKind;

namespace {

constexpr std::size_t kEnoughViolations = 20;  // the first says what is wrong

std::string words(const actors::DispatchKey& key) {
  return "step " + std::to_string(key.step) + " layer " + std::to_string(key.layer.value) + " micro-batch " +
         std::to_string(key.micro_batch) + " of node " + std::to_string(key.decoder_node.value);
}

}  // namespace

void Checkers::attach(SimCluster& cluster, const TokensByRequest* fault_free) {
  cluster_ = &cluster;
  fault_free_ = fault_free;
  cluster.world().add_observer([this](const SimEvent& event) { look(event); });
}

void Checkers::fail(std::string checker, std::string text) {
  if (violations_.size() >= kEnoughViolations) return;
  violations_.push_back(
      {std::move(checker), cluster_ == nullptr ? 0 : cluster_->world().event_count(), std::move(text)});
}

void Checkers::look(const SimEvent& event) {
  runtime::SimProcess& process = cluster_->world().process(event.process);
  if (process.paused() && process.alive() && event.kind != SimEventKind::kStart) {
    // A fault may have stopped it in this very event, but faults fall before events.
    fail("stopped",
         process.name() + " did something (" + std::string(runtime::name(event.kind)) + ") while it was stopped");
  }
  if (event.kind == SimEventKind::kFrame && event.message_kind == actors::GenerationEnded::kKind &&
      !cluster::is_worker(event.node) && ++ends_told_ > cluster_->generation_count()) {
    fail("ends", "a request was told its end twice");
  }
  look_at_tokens();
  if (!process.alive() || !cluster::is_worker(event.node)) return;
  Worker* worker = cluster_->worker(process.name());
  if (worker != nullptr) look_at_worker(event, process, *worker);
}

void Checkers::look_at_tokens() {
  tokens_seen_.resize(cluster_->generation_count(), 0);
  for (std::size_t g = 0; g < tokens_seen_.size(); ++g) {
    const auto& tokens = cluster_->generation(g).tokens;
    for (std::size_t& i = tokens_seen_[g]; i < tokens.size(); ++i) {
      const std::string where = "token " + std::to_string(i) + " of request " + std::to_string(g);
      if (tokens[i].index != i) fail("tokens", where + " came as number " + std::to_string(tokens[i].index));
      if (fault_free_ == nullptr) continue;
      const auto& expected = fault_free_->at(g);
      if (i >= expected.size()) {
        fail("tokens", where + " is one more than without faults");
      } else if (tokens[i].id != expected[i].id || tokens[i].logits_crc != expected[i].logits_crc) {
        fail("tokens", where + " is " + std::to_string(tokens[i].id) + " (logits_crc " +
                           std::to_string(tokens[i].logits_crc) + "), without faults " +
                           std::to_string(expected[i].id) + " (" + std::to_string(expected[i].logits_crc) + ")");
      }
    }
  }
}

void Checkers::look_at_worker(const SimEvent& event, const runtime::SimProcess& process, Worker& worker) {
  Known& known = known_[event.process];
  const std::uint64_t received = worker.post_office().counters().received;
  const std::uint64_t taken = received - std::exchange(known.received, received);
  if (event.kind == SimEventKind::kFrame && taken != 0 && event.peer_incarnation.value != 0) {
    const auto over = known.over.find(event.peer);
    if (over != known.over.end() && event.peer_incarnation <= over->second) {
      fail("dead lives", process.name() + " took a frame of kind " + std::to_string(event.message_kind) + " of life " +
                             std::to_string(event.peer_incarnation.value) + " of node " +
                             std::to_string(event.peer.value) + ", which is over");
    }
  }
  const Incarnation life = cluster_->world().process(event.process).loop().incarnation();
  bool news = false;
  if (life != known.life) {
    known.life = life;
    news = true;
    const auto [at, is_new] = lives_.emplace(std::pair(event.node, life), event.process);
    if (!is_new && at->second != event.process) {
      fail("incarnations",
           process.name() + " has life " + std::to_string(life.value) + ", which an earlier process had");
    }
    auto& told = told_.nodes[event.node].incarnation;
    told = std::max(told, life);
  }
  if (const auto view = worker.view(); view != known.view) {
    note_view(known, view);
    news = true;
  }
  if (news) look_at_log();
}

void Checkers::note_view(Known& known, const cluster::ClusterViewPtr& view) {
  known.view = view;
  for (const cluster::Member& member : view->members) {
    Incarnation& latest = known.latest[member.node];
    if (member.incarnation.value == 0) {
      known.over[member.node] = std::max(known.over[member.node], latest);
    } else {
      latest = std::max(latest, member.incarnation);
      known.over[member.node] = std::max(known.over[member.node], Incarnation{member.incarnation.value - 1});
      auto& told = told_.nodes[member.node].incarnation;
      told = std::max(told, member.incarnation);
    }
  }
  told_.term = std::max(told_.term, Incarnation{static_cast<std::uint32_t>(view->version >> 32)});
  if (view->epoch > told_.epoch) told_.epoch = view->epoch;
  if (view->placement.empty()) return;
  if (told_.numeric_plan && *told_.numeric_plan != view->numeric_plan) {
    fail("log", "a view has another numeric plan than an earlier one");
  }
  told_.numeric_plan = view->numeric_plan;
  plan_ = actors::model_plan(view->numeric_plan);
}

// A synced log holds all that anybody was told; what is not on disk yet would be gone after a crash now.
void Checkers::look_at_log() {
  const auto decided = cluster_->decided_on_disk();
  if (!decided.ok()) return fail("log", "the Coordinator's log cannot be read: " + decided.error().text);
  for (const auto& [node, told] : told_.nodes) {
    const auto logged = decided->nodes.find(node);
    if (told.incarnation.value == 0) continue;
    if (logged == decided->nodes.end() || logged->second.incarnation < told.incarnation) {
      fail("log", "life " + std::to_string(told.incarnation.value) + " of node " + std::to_string(node.value) +
                      " was acknowledged and is not in the log");
    }
  }
  if (decided->term < told_.term) fail("log", "a term that told views is not in the log");
  if (decided->epoch < told_.epoch) {
    fail("log", "epoch " + std::to_string(told_.epoch.value) + " was told and is not in the log");
  }
  if (told_.numeric_plan && decided->numeric_plan != told_.numeric_plan) {
    fail("log", "the numeric plan that was told is not the one in the log");
  }
}

// --- ends and rest ---------------------------------------------------------------------------------------------------

void Checkers::look_at_ends() {
  for (std::size_t g = 0; g < cluster_->generation_count(); ++g) {
    const SimGeneration& generation = cluster_->generation(g);
    const std::string request = "request " + std::to_string(g);
    if (!generation.end) {
      fail("ends", request + " did not end");
      continue;
    }
    if (generation.end_count != 1) fail("ends", request + " ended " + std::to_string(generation.end_count) + " times");
    const bool whole =
        generation.end->reason == actors::EndReason::kLength || generation.end->reason == actors::EndReason::kStop;
    if (!whole && cluster_->world().process(generation.batcher_process).alive()) {
      fail("ends", request + " ended in words (" + generation.end->text + ") though its Batcher lives");
    }
    if (whole && fault_free_ != nullptr && generation.tokens.size() != fault_free_->at(g).size()) {
      fail("ends", request + " ended whole with " + std::to_string(generation.tokens.size()) +
                       " tokens, without faults " + std::to_string(fault_free_->at(g).size()));
    }
  }
}

void Checkers::look_at_rest() {
  look_at_log();
  if (const std::string unrest = cluster_->unrest(); !unrest.empty()) fail("rest", unrest);
  for (const auto& place : cluster_->processes().workers) {
    const Worker* worker = cluster_->worker(place.name);
    if (worker == nullptr) continue;
    const auto& batcher = worker->batcher_counters();
    if (batcher.accepted != batcher.ended || batcher.running != 0 || batcher.queued != 0) {
      fail("rest", place.name + ": of " + std::to_string(batcher.accepted) + " requests " +
                       std::to_string(batcher.ended) + " ended; " + std::to_string(batcher.running) + " run, " +
                       std::to_string(batcher.queued) + " wait");
    }
  }
}

// --- passes ----------------------------------------------------------------------------------------------------------

void Checkers::on_answered(const actors::RoutePass& pass, const actors::RoutedOutputs& routed) {
  const model::PartOutputs& outputs = routed.outputs;
  const auto hidden = std::size_t{pass.hidden};
  const auto* rows = reinterpret_cast<const float*>(pass.rows.bytes().data());
  if (outputs.tokens() != pass.routes.tokens || outputs.top_k() != pass.routes.top_k ||
      outputs.ranges() != static_cast<std::int64_t>(plan_.columns.size())) {
    return fail("parts", words(pass.key) + " was answered in another shape than asked");
  }
  Answer answer;
  for (std::int64_t t = 0; t < outputs.tokens(); ++t) {
    const auto row = static_cast<std::size_t>(t);
    const bool counts =
        (pass.alive.empty() || pass.alive[row] != 0) && (routed.waiting.empty() || routed.waiting[row] == 0);
    for (std::int64_t k = 0; k < outputs.top_k(); ++k) {
      for (std::int64_t range = 0; range < outputs.ranges(); ++range) {
        answer.prints.push_back(0);
        if (!counts) continue;
        const auto& columns = plan_.columns[static_cast<std::size_t>(range)];
        const model::PartKey part{pass.key.layer, model::PartKind::kRoutedExpert,
                                  pass.routes.experts[pass.routes.at(t, k)], columns.first, columns.count};
        const float* output = outputs.get(t, k, range);
        if (output == nullptr) {
          fail("parts", words(pass.key) + ": " + describe(part) + " is missing for row " + std::to_string(t));
          continue;
        }
        answer.prints.back() = row_print({output, hidden});
        if (answer.prints.back() != reference_->output_print(part, {rows + row * hidden, hidden})) {
          fail("parts", words(pass.key) + ": what came for row " + std::to_string(t) + " is not what " +
                            describe(part) + " makes of it");
        }
      }
    }
  }
  if (!answers_.emplace(pass.key, std::move(answer)).second) fail("parts", words(pass.key) + " was answered twice");
}

void Checkers::on_combined(const actors::DispatchKey& key, const model::PartOutputs& outputs) {
  const auto found = answers_.find(key);
  if (found == answers_.end()) {  // the Router gave no answer: every row has left, and nothing may be added
    for (std::int64_t t = 0; t < outputs.tokens(); ++t) {
      if (outputs.get(t, 0, 0) != nullptr) return fail("parts", words(key) + " was combined without an answer");
    }
    return;
  }
  if (std::exchange(found->second.combined, true)) return fail("parts", words(key) + " was combined twice");
  const auto hidden = static_cast<std::size_t>(reference_->hidden());
  std::size_t i = 0;
  for (std::int64_t t = 0; t < outputs.tokens(); ++t) {
    for (std::int64_t k = 0; k < outputs.top_k(); ++k) {
      for (std::int64_t range = 0; range < outputs.ranges(); ++range, ++i) {
        const std::uint64_t print = found->second.prints.at(i);
        const float* output = outputs.get(t, k, range);
        if (print != 0 && (output == nullptr || row_print({output, hidden}) != print)) {
          return fail("parts", words(key) + " was combined with other outputs than it was answered with");
        }
      }
    }
  }
}

}  // namespace consort::cli
