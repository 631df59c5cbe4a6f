// Batcher: logits for `consort logits`, and the warm-up that sends one real token through every node.
#include <algorithm>
#include <utility>

#include "actors/serving/batcher_records.hpp"

namespace consort::actors {

using cluster::NodeState;
using runtime::ErrorKind;
using runtime::NodeId;
using runtime::Outcome;

namespace {

constexpr runtime::Duration kSlicePatience = std::chrono::seconds(10);
constexpr std::uint32_t kMaxJobMs = 24u * 60 * 60 * 1000;

// Nodes that a token must cross before the cluster may call itself ready.
std::set<NodeId> holders(const cluster::ClusterView& view) {
  std::set<NodeId> nodes;
  for (const auto& [part, replicas] : view.placement) nodes.insert(replicas.begin(), replicas.end());
  return nodes;
}

std::set<NodeId> trunks(const cluster::ClusterView& view) {
  std::set<NodeId> nodes;
  for (const cluster::Member& member : view.members) {
    if (member.roles.trunk && member.state == NodeState::kReady) nodes.insert(member.node);
  }
  return nodes;
}

std::string names_of(const cluster::ClusterView& view, const std::vector<NodeId>& nodes) {
  std::string text;
  for (const NodeId node : nodes) {
    const cluster::Member* member = view.find(node);
    text += (text.empty() ? "" : ", ") + (member == nullptr ? std::to_string(node.value) : member->name);
  }
  return text;
}

std::vector<NodeId> without(const std::set<NodeId>& all, const std::set<NodeId>& some) {
  std::vector<NodeId> rest;
  std::ranges::set_difference(all, some, std::back_inserter(rest));
  return rest;
}

}  // namespace

// --- logits
// ------------------------------------------------------------------------------------------------------------

void Batcher::on(ComputeLogits message, runtime::ReplyTo<LogitsComputed> reply) {
  if (message.ids.empty()) return reply.reject({ErrorKind::kInvalid, "the prompt has no tokens"});
  if (const auto refused = refuse_now(message.ids.size())) {
    return reply.reject({ErrorKind::kExhausted, refused->text});
  }
  Request& request =
      enter(std::move(message.ids), 0, std::chrono::milliseconds(std::min(message.deadline_ms, kMaxJobMs)));
  request.kind = RequestKind::kLogits;
  request.sampling.temperature = 0;
  request.logits_reply = std::move(reply);
  enqueue(request);
  schedule();
}

void Batcher::finish_logits(Request& request, const DecoderPeer& peer) {
  const LedgerOpened& model = peer.limits;
  const std::uint64_t capture = std::exchange(request.capture, 0);  // kept beyond the request
  kept_logits_[capture] = {peer.ref(), after(kLogitsIdle, [this, capture] { drop_logits(capture); })};
  request.logits_reply->send({capture, request.prompt_count, model.vocabulary, model.hidden, model.layers,
                              model.first_moe_layer, model.top_k});
  request.logits_reply.reset();
  end(request.name, EndReason::kLength, "");
}

void Batcher::on(ReadLogitsSlice message, runtime::ReplyTo<LogitsSlice> reply) {
  const auto kept = kept_logits_.find(message.capture);
  if (kept == kept_logits_.end()) {
    return reply.reject({ErrorKind::kInvalid, "these logits are not kept any more; compute them again"});
  }
  cancel(kept->second.idle_timer);
  kept->second.idle_timer = after(kLogitsIdle, [this, capture = message.capture] { drop_logits(capture); });
  auto owed = std::make_shared<runtime::ReplyTo<LogitsSlice>>(std::move(reply));
  ask(kept->second.decoder, std::move(message), kSlicePatience).then([owed](Outcome<LogitsSlice> slice) {
    owed->settle(std::move(slice));
  });
}

void Batcher::on(ReleaseLogits message) { drop_logits(message.capture); }

void Batcher::drop_logits(std::uint64_t capture) {
  const auto kept = kept_logits_.find(capture);
  if (kept == kept_logits_.end()) return;
  cancel(kept->second.idle_timer);
  tell(kept->second.decoder, ReleaseLogits{capture});
  kept_logits_.erase(kept);
}

// --- warm-up
// -----------------------------------------------------------------------------------------------------------

void Batcher::on(WarmUp message, runtime::ReplyTo<WarmUpDone> reply) {
  auto job = std::make_unique<WarmUpJob>();
  job->name = next_name_++;
  job->reply = std::move(reply);
  job->deadline = now() + std::chrono::milliseconds(std::min(message.deadline_ms, kMaxJobMs));
  warm_ups_.emplace(job->name, std::move(job));
  schedule();
}

// Gives each Decoder that is ready its token, and answers when all have crossed every node that holds parts.
void Batcher::drive_warm_ups() {
  std::vector<std::uint64_t> over;
  for (const auto& [name, job] : warm_ups_) {
    const std::set<NodeId> needed = view_ == nullptr ? std::set<NodeId>{} : trunks(*view_);
    const bool is_planned = view_ != nullptr && !view_->placement.empty();
    if (is_planned && !needed.empty() && without(needed, job->warmed).empty() &&
        without(holders(*view_), job->visited).empty()) {
      job->reply.send({{job->warmed.begin(), job->warmed.end()}, {job->visited.begin(), job->visited.end()}});
      over.push_back(name);
      continue;
    }
    if (now() >= job->deadline) {
      job->reply.reject({ErrorKind::kTimedOut, missing_in_words(*job)});
      over.push_back(name);
      continue;
    }
    for (const NodeId node : needed) {
      const auto peer = decoders_.find(node);
      const bool is_here =
          is_planned && peer != decoders_.end() && peer->second->is_open && !is_suspected(*peer->second);
      if (!is_here || job->warmed.contains(node) || job->asked.contains(node)) continue;
      job->asked.insert(node);
      Request& request = enter({0}, 1, job->deadline - now());
      request.kind = RequestKind::kWarmUp;
      request.priority = -kMaxPriority - 1;
      request.sampling.temperature = 0;
      request.warm_up = name;
      request.pinned = node;
      enqueue(request);
    }
    cancel(job->timer);
    job->timer = after(std::min<runtime::Duration>(kWarmUpEvery, job->deadline - now()), [this] { schedule(); });
  }
  for (const std::uint64_t name : over) {
    cancel(warm_ups_.at(name)->timer);
    warm_ups_.erase(name);
  }
}

void Batcher::on_warmed(Request& request, const StepInFlight& step, const StepDone& done) {
  const auto found = warm_ups_.find(request.warm_up);
  if (found != warm_ups_.end() && view_ != nullptr) {
    WarmUpJob& job = *found->second;
    job.asked.erase(step.decoder);
    job.visited.insert(done.visited.begin(), done.visited.end());
    const std::set<NodeId> seen(done.visited.begin(), done.visited.end());
    const SequenceDone& sequence = done.sequences.front();
    const auto missed = without(holders(*view_), seen);
    if (sequence.waiting || sequence.failed) {
      job.trouble = sequence.reason;
    } else if (!missed.empty()) {
      job.trouble = "a token did not cross " + names_of(*view_, missed);
    } else {
      job.warmed.insert(step.decoder);
    }
  }
  request.warm_up = 0;
  end(request.name, EndReason::kLength, "");
}

std::string Batcher::missing_in_words(const WarmUpJob& job) const {
  if (view_ == nullptr || view_->placement.empty()) return "no parts are placed yet";
  const auto needed = trunks(*view_);
  if (needed.empty()) return "no node with the trunk role is ready";
  std::string text = "no token has come through";
  if (const auto missing = without(needed, job.warmed); !missing.empty())
    text += "; Decoders without one: " + names_of(*view_, missing);
  if (const auto missing = without(holders(*view_), job.visited); !missing.empty())
    text += "; not crossed: " + names_of(*view_, missing);
  return job.trouble.empty() ? text : text + "; " + job.trouble;
}

}  // namespace consort::actors
