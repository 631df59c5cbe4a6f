#include "actors/experts/router.hpp"

#include <algorithm>
#include <utility>

#include "runtime/trace.hpp"

namespace consort::actors {

using runtime::Buffer;
using runtime::Duration;
using runtime::Error;
using runtime::ErrorKind;
using runtime::Instant;
using runtime::MessageClass;
using runtime::NodeId;
using runtime::Outcome;

namespace {

// A pass is answered this long before its own deadline, so that its Decoder hears which rows wait instead of nothing.
constexpr Duration kAnswerMargin = std::chrono::milliseconds(20);
// Outputs of one dispatch: half of what a reply may carry, and rows plus outputs fit a peer's credit window.
constexpr std::size_t kMaxDispatchBytes = std::size_t{32} << 20;

}  // namespace

// A part that a pass needs, or a visit: a part computed for one row only to see that its node answers.
struct Router::PassPart {
  PartRequest request;
  std::vector<std::uint32_t> ks;  // of each row: which of its experts this is
  std::int64_t range = 0;         // column range of the plan
  bool done = false;
  bool given_up = false;
  int outstanding = 0;          // dispatches that carry it and whose node is not suspected
  std::vector<Life> tried;      // each dispatch goes once to each replica
  std::optional<NodeId> visit;  // a visit: only this node will do
};

struct Router::Pass {
  std::uint64_t name = 0;
  RoutePass message;
  runtime::ReplyTo<RoutedOutputs> reply;
  Instant deadline;
  std::vector<PassPart> parts;
  RoutedOutputs result;
  std::size_t left = 0;  // parts neither done nor given up
  std::set<NodeId> visited;
  std::set<NodeId> visiting;  // that were sent to
};

struct Router::Dispatch {
  std::uint64_t pass = 0;
  Life to;
  DispatchKey key;
  MessageClass urgency = MessageClass::kDecode;
  std::vector<std::size_t> parts;  // of the pass
  std::uint32_t output_count = 0;
  double bytes = 0;
  Instant sent;
  runtime::TimerId late_timer = 0;
  bool superseded = false;  // its node is suspected: what it carried is outstanding elsewhere
  bool hedged = false;
};

Router::Router(RouterSettings settings, runtime::BufferPool& buffers, cluster::ClusterViewPtr view,
               std::shared_ptr<RouterCounters> counters)
    : settings_(settings),
      buffers_(buffers),
      counters_(counters ? std::move(counters) : std::make_shared<RouterCounters>()) {
  on(cluster::ViewChanged{std::move(view)});
}

Router::~Router() = default;

void Router::on(RoutePass message, runtime::ReplyTo<RoutedOutputs> reply, const runtime::Context& context) {
  const auto rows = static_cast<std::size_t>(message.routes.tokens);
  CONSORT_CHECK(message.rows.size() == rows * message.hidden * sizeof(float), message.rows.size(), rows,
                message.hidden);
  auto pass = std::make_unique<Pass>();
  pass->name = next_name_++;
  pass->message = std::move(message);
  pass->reply = std::move(reply);
  pass->deadline = context.deadline == Instant::max() ? context.deadline : context.deadline - kAnswerMargin;
  Pass& opened = *passes_.emplace(pass->name, std::move(pass)).first->second;
  open_parts(opened);
  std::vector<std::size_t> all(opened.parts.size());
  for (std::size_t p = 0; p < all.size(); ++p) all[p] = p;
  send_parts(opened, all, Cause::kFirst);
  if (opened.message.visit_all_nodes) add_visits(opened);
  opened.result.sent = now();
  finish_if_whole(opened.name);
}

// Every live row's experts, cut by the numeric plan.
void Router::open_parts(Pass& pass) {
  const RoutePass& message = pass.message;
  pass.result.outputs =
      model::PartOutputs(message.routes.tokens, message.routes.top_k, static_cast<std::int64_t>(plan_.columns.size()));
  const std::vector<model::Assignment> assignments = model::by_expert(message.routes, message.alive);
  for (std::size_t first = 0, last = 0; first < assignments.size(); first = last) {
    const std::uint32_t expert = assignments[first].expert;
    while (last < assignments.size() && assignments[last].expert == expert) ++last;
    count_rows(message.key.layer.value, expert, last - first);
    for (std::size_t range = 0; range < plan_.columns.size(); ++range) {
      PassPart& part = pass.parts.emplace_back();
      part.request.part = {message.key.layer, model::PartKind::kRoutedExpert, expert, plan_.columns[range].first,
                           plan_.columns[range].count};
      part.range = static_cast<std::int64_t>(range);
      for (std::size_t i = first; i < last; ++i) {
        part.request.rows.push_back(assignments[i].token);
        part.ks.push_back(assignments[i].k);
      }
    }
  }
  pass.left = pass.parts.size();
  if (plan_.columns.empty() && !assignments.empty()) {
    pass.result.waiting.assign(static_cast<std::size_t>(message.routes.tokens), 1);
    pass.result.why_waiting = "this node has no placement yet";
  }
}

void Router::count_rows(std::uint32_t layer, std::uint32_t expert, std::size_t rows) {
  auto& layers = counters_->expert_rows;
  if (layer >= layers.size()) layers.resize(layer + 1);
  if (expert >= layers[layer].size()) layers[layer].resize(expert + 1);
  layers[layer][expert] += static_cast<std::uint32_t>(rows);
}

// One row to each node that holds parts and is not on the pass's way.
void Router::add_visits(Pass& pass) {
  if (view_ == nullptr || pass.message.routes.tokens == 0) return;
  std::map<NodeId, cluster::PartId> part_of;  // the first one of this layer, or of any
  for (const auto& [id, nodes] : view_->placement) {
    for (const NodeId node : nodes) {
      const auto [at, is_new] = part_of.emplace(node, id);
      if (!is_new && at->second.layer != pass.message.key.layer.value && id.layer == pass.message.key.layer.value) {
        at->second = id;
      }
    }
  }
  std::vector<std::size_t> visits;
  for (const auto& [node, id] : part_of) {
    if (pass.visiting.contains(node)) continue;
    PassPart& visit = pass.parts.emplace_back();
    visit.request = {part_key(id), {0}};
    visit.visit = node;
    visits.push_back(pass.parts.size() - 1);
  }
  pass.left += visits.size();
  for (const std::size_t visit : visits) send_parts(pass, std::span(&visit, 1), Cause::kFirst);
}

bool Router::usable(const cluster::Member* member) const {
  if (member == nullptr || member->incarnation.value == 0) return false;
  const Life life{member->node, member->incarnation};
  return !suspected_.contains(life) && !lost_.contains(life);
}

std::vector<NodeId> Router::usable_replicas(const PassPart& part) const {
  std::vector<NodeId> ready, loading;
  if (view_ == nullptr) return ready;
  const auto placed = view_->placement.find(part_id(part.request.part));
  if (placed == view_->placement.end()) return ready;
  for (const NodeId node : placed->second) {
    if (part.visit && *part.visit != node) continue;
    const cluster::Member* member = view_->find(node);
    if (!usable(member)) continue;
    const Life life{node, member->incarnation};
    if (std::ranges::find(part.tried, life) != part.tried.end() || absent_.contains({life, part.request.part}))
      continue;
    (member->state == cluster::NodeState::kReady ? ready : loading).push_back(node);
  }
  return ready.empty() ? loading : ready;
}

ReplicaNode Router::node_now(NodeId node, const Pass& pass) const {
  ReplicaNode out;
  const cluster::Member* member = view_->find(node);
  if (member != nullptr && member->profile.expert_bytes_per_second > 0) {
    out.bytes_per_second = member->profile.expert_bytes_per_second;
  }
  if (member != nullptr && node != loop().node()) out.delay_seconds = member->profile.link_delay_seconds;
  if (const auto queued = queued_bytes_.find(node); queued != queued_bytes_.end()) out.queued_bytes = queued->second;
  out.visited = pass.visiting.contains(node);
  return out;
}

// Sends each part to one more of its replicas. A part without one is given up, unless an answer to it is still to come.
void Router::send_parts(Pass& pass, std::span<const std::size_t> parts, Cause cause) {
  std::vector<std::vector<NodeId>> replicas(parts.size());
  std::vector<PartToPlace> to_place(parts.size());
  std::map<NodeId, ReplicaNode> nodes;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const PassPart& part = pass.parts[parts[i]];
    replicas[i] = usable_replicas(part);
    for (const NodeId node : replicas[i]) {
      if (!nodes.contains(node)) nodes.emplace(node, node_now(node, pass));
    }
    to_place[i] = {
        part_cost_bytes(settings_.bytes_per_column * part.request.part.column_count, part.request.rows.size()),
        replicas[i]};
  }
  const auto chosen = choose_replicas(to_place, nodes);
  std::map<NodeId, std::vector<std::size_t>> by_node;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (chosen[i]) {
      by_node[replicas[i][*chosen[i]]].push_back(parts[i]);
    } else if (pass.parts[parts[i]].outstanding == 0) {
      give_up(pass, parts[i]);
    }
  }
  for (const auto& [node, indices] : by_node) {
    if (cause == Cause::kReplay) ++counters_->replays;
    if (cause == Cause::kHedge) ++counters_->hedges;
    std::size_t first = 0, bytes = 0;
    for (std::size_t i = 0; i <= indices.size(); ++i) {
      const std::size_t more =
          i < indices.size() ? pass.parts[indices[i]].request.rows.size() * pass.message.hidden * sizeof(float) : 0;
      if (i > first && (i == indices.size() || bytes + more > kMaxDispatchBytes)) {
        send_to(pass, Life{node, view_->find(node)->incarnation}, std::span(indices).subspan(first, i - first));
        first = i;
        bytes = 0;
      }
      bytes += more;
    }
  }
}

void Router::send_to(Pass& pass, Life to, std::span<const std::size_t> parts) {
  const std::uint64_t name = next_name_++;
  Dispatch& dispatch = dispatches_[name];
  dispatch.pass = pass.name;
  dispatch.to = to;
  dispatch.urgency = pass.message.urgency;
  dispatch.parts.assign(parts.begin(), parts.end());
  dispatch.sent = now();
  ComputeParts message;
  message.key = pass.message.key;
  message.key.layer = pass.parts[parts.front()].request.part.layer;  // a visit may be to another layer
  dispatch.key = message.key;
  message.plan_digest = plan_digest_;
  std::vector<PartRequest> requests;
  std::vector<std::uint32_t> rows;
  for (const std::size_t p : parts) {
    PassPart& part = pass.parts[p];
    part.tried.push_back(to);
    ++part.outstanding;
    requests.push_back(part.request);
    rows.insert(rows.end(), part.request.rows.begin(), part.request.rows.end());
    dispatch.bytes +=
        part_cost_bytes(settings_.bytes_per_column * part.request.part.column_count, part.request.rows.size());
  }
  std::ranges::sort(rows);
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  const std::size_t payload_bytes = compute_parts_payload_bytes(rows.size(), pass.message.hidden, requests);
  // An exhausted pool must not lose a pass; memory of its own only costs registration.
  auto pooled = buffers_.take(payload_bytes);
  Buffer payload = pooled.ok() ? std::move(pooled).value() : Buffer::allocate(payload_bytes);
  const runtime::ConstTensorView source(pass.message.rows.bytes().data(), runtime::Dtype::kF32,
                                        {pass.message.routes.tokens, pass.message.hidden});
  pack_compute_parts(message, std::move(payload), source, rows, requests);
  dispatch.output_count = message.output_count;

  queued_bytes_[to.node] += dispatch.bytes;
  pass.visiting.insert(to.node);
  ++counters_->dispatches;
  RouterCounters::Edge& edge = counters_->edges[to.node];
  ++edge.dispatches;
  edge.sent_bytes += payload_bytes;
  PeerPace& peer = pace(to.node, dispatch.urgency);
  peer.note_dispatch(now());
  dispatch.late_timer = after(peer.late_after(), [this, name] { on_late(name); });
  const runtime::RefTo<ExpertGroupProtocol> group{
      {to.node, to.incarnation, cluster::actor_id(cluster::Role::kExpertGroup)}};
  const runtime::SendOptions options{dispatch.urgency, view_->epoch};
  const Duration patience = std::max(Duration(1), pass.deadline - now());
  ask(group, std::move(message), patience, options).then([this, name](Outcome<PartOutputs> outcome) {
    on_answer(name, std::move(outcome));
  });
}

void Router::on_answer(std::uint64_t name, Outcome<PartOutputs> outcome) {
  const auto found = dispatches_.find(name);
  if (found == dispatches_.end()) return;
  const Dispatch dispatch = std::move(found->second);
  dispatches_.erase(found);
  cancel(dispatch.late_timer);
  queued_bytes_[dispatch.to.node] -= dispatch.bytes;
  env().trace.record({"dispatch", "dispatch", dispatch.sent, now() - dispatch.sent, dispatch.to.node.value,
                      trace_number(dispatch.key)});
  if (outcome.ok()) {
    const Duration round_trip = now() - dispatch.sent;
    pace(dispatch.to.node, dispatch.urgency).note_answer(round_trip);
    RouterCounters::Edge& edge = counters_->edges[dispatch.to.node];
    ++edge.answers;
    edge.round_trip_ns += static_cast<std::uint64_t>(round_trip.count());
  }
  const auto at = passes_.find(dispatch.pass);
  if (at == passes_.end()) {
    if (outcome.ok()) ++counters_->late_answers;
    return;
  }
  Pass& pass = *at->second;
  if (!dispatch.superseded) {
    for (const std::size_t p : dispatch.parts) --pass.parts[p].outstanding;
  }
  if (outcome.ok() && fits(dispatch, outcome.value())) {
    keep_outputs(pass, dispatch, std::move(outcome).value());
  } else {
    const Error error =
        outcome.ok() ? Error{ErrorKind::kMalformed, "its outputs do not fit what was asked for"} : outcome.error();
    // A wire may break between two living nodes: only what is said of the life itself counts for good.
    if (error.kind == ErrorKind::kStaleIncarnation) lost_.insert(dispatch.to);
    pass.result.why_waiting = "node " + node_name(dispatch.to.node) + ": " + describe(error);
    on_refused(pass, dispatch, error);
  }
  finish_if_whole(dispatch.pass);
}

// Replays what a dispatch carried whose node did not compute it.
void Router::on_refused(Pass& pass, const Dispatch& dispatch, const Error& error) {
  std::vector<std::size_t> open;
  for (const std::size_t p : dispatch.parts) {
    if (!pass.parts[p].done && !pass.parts[p].given_up && pass.parts[p].outstanding == 0) open.push_back(p);
  }
  if (open.empty()) return;
  env().trace.record({"replayed", "dispatch", now(), Duration(0), dispatch.to.node.value, dispatch.key.layer.value});
  if (error.kind != ErrorKind::kWrongEpoch) return send_parts(pass, open, Cause::kReplay);
  if (dispatch.parts.size() == 1) {
    absent_.emplace(dispatch.to, pass.parts[open.front()].request.part);
    return send_parts(pass, open, Cause::kReplay);
  }
  // One part that is not there refused them all: each is asked for by itself, there too.
  for (const std::size_t p : open) {
    std::erase(pass.parts[p].tried, dispatch.to);
    send_parts(pass, std::span(&p, 1), Cause::kReplay);
  }
}

bool Router::fits(const Dispatch& dispatch, const PartOutputs& outputs) const {
  const Pass& pass = *passes_.at(dispatch.pass);
  return outputs.output_count == dispatch.output_count && outputs.hidden == pass.message.hidden &&
         outputs.outputs.size() == std::size_t{outputs.output_count} * outputs.hidden * sizeof(float);
}

void Router::keep_outputs(Pass& pass, const Dispatch& dispatch, PartOutputs outputs) {
  const auto* row = reinterpret_cast<const float*>(outputs.outputs.bytes().data());
  bool is_first = false;
  for (const std::size_t p : dispatch.parts) {
    PassPart& part = pass.parts[p];
    const bool wanted = !part.done && !part.given_up;
    for (std::size_t i = 0; i < part.request.rows.size(); ++i, row += outputs.hidden) {
      if (wanted && !part.visit) pass.result.outputs.set(part.request.rows[i], part.ks[i], part.range, row);
    }
    if (!wanted) continue;
    part.done = true;
    --pass.left;
    is_first = true;
  }
  pass.visited.insert(dispatch.to.node);
  pass.result.awaited = dispatch.to.node;
  pass.result.awaited_compute = Duration(static_cast<Duration::rep>(std::min<std::uint64_t>(
      outputs.compute_ns, std::uint64_t{1} << 62)));  // of another node: not to be believed, only shown
  if (is_first) {
    pass.result.buffers.push_back(std::move(outputs.outputs));
  } else {
    ++counters_->late_answers;
  }
}

// The node answers heartbeats but not this. Asked for once more elsewhere, within the peer's budget.
void Router::on_late(std::uint64_t name) {
  const auto found = dispatches_.find(name);
  if (found == dispatches_.end() || found->second.superseded || found->second.hedged) return;
  Dispatch& dispatch = found->second;
  const auto at = passes_.find(dispatch.pass);
  if (at == passes_.end()) return;
  Pass& pass = *at->second;
  std::vector<std::size_t> open;
  for (const std::size_t p : dispatch.parts) {
    if (!pass.parts[p].done && !pass.parts[p].given_up && !usable_replicas(pass.parts[p]).empty()) open.push_back(p);
  }
  PeerPace& peer = pace(dispatch.to.node, dispatch.urgency);
  if (open.empty() || !peer.take_hedge(now())) {
    dispatch.late_timer = after(peer.late_after(), [this, name] { on_late(name); });
    return;
  }
  dispatch.hedged = true;
  env().trace.record({"hedged", "dispatch", now(), Duration(0), dispatch.to.node.value, dispatch.key.layer.value});
  send_parts(pass, open, Cause::kHedge);
}

// The node of the dispatch is suspected or lost: what it carries is sent elsewhere at once, outside any budget.
void Router::replay(Dispatch& dispatch, std::string_view why) {
  const auto at = passes_.find(dispatch.pass);
  if (at == passes_.end() || dispatch.superseded) return;
  dispatch.superseded = true;
  Pass& pass = *at->second;
  pass.result.why_waiting = "node " + node_name(dispatch.to.node) + " " + std::string(why);
  std::vector<std::size_t> open;
  for (const std::size_t p : dispatch.parts) {
    PassPart& part = pass.parts[p];
    --part.outstanding;
    if (!part.done && !part.given_up && part.outstanding == 0) open.push_back(p);
  }
  if (open.empty()) return;
  env().trace.record({"replayed", "dispatch", now(), Duration(0), dispatch.to.node.value, dispatch.key.layer.value});
  send_parts(pass, open, Cause::kReplay);
}

void Router::on(cluster::PeerSuspected message) {
  const Life life{message.node, message.incarnation};
  if (!message.suspected) {
    suspected_.erase(life);
    return;
  }
  suspected_.insert(life);
  std::vector<std::uint64_t> there;
  for (const auto& [name, dispatch] : dispatches_) {
    if (dispatch.to == life) there.push_back(name);
  }
  for (const std::uint64_t name : there) {
    Dispatch& dispatch = dispatches_.at(name);
    replay(dispatch, "is silent");
    finish_if_whole(dispatch.pass);
  }
}

// Asks to the dead life end with peer_down, which replays what they carried.
void Router::on(cluster::PeerLost message) {
  const Life life{message.node, message.incarnation};
  suspected_.erase(life);
  lost_.insert(life);
}

void Router::on(cluster::ViewChanged message) {
  view_ = std::move(message.view);
  if (view_ == nullptr) return;
  const auto is_over = [&](const Life& life) {
    const cluster::Member* member = view_->find(life.node);
    return member == nullptr || member->incarnation != life.incarnation;
  };
  std::erase_if(suspected_, is_over);
  std::erase_if(lost_, is_over);
  absent_.clear();
  // Passes under way keep the cut that they were opened with; the plan of a cluster never changes while it serves.
  plan_ = model_plan(view_->numeric_plan);
  plan_digest_ = plan_.digest();
}

// The rows that need this part leave the pass; the others go on.
void Router::give_up(Pass& pass, std::size_t index) {
  PassPart& part = pass.parts[index];
  part.given_up = true;
  --pass.left;
  if (part.visit) {
    pass.result.why_waiting = "node " + node_name(*part.visit) + " did not answer";
    return;
  }
  auto& waiting = pass.result.waiting;
  waiting.resize(static_cast<std::size_t>(pass.message.routes.tokens), 0);
  for (const std::uint32_t row : part.request.rows) {
    if (waiting[row] == 0) ++counters_->waiting_rows;
    waiting[row] = 1;
  }
  std::string why = std::move(pass.result.why_waiting);
  if (why.find(" is at no node") == std::string::npos) {
    why = describe(part.request.part) + " is at no node that answers" + (why.empty() ? "" : "; " + why);
  }
  pass.result.why_waiting = std::move(why);
}

void Router::finish_if_whole(std::uint64_t name) {
  const auto at = passes_.find(name);
  if (at == passes_.end()) return;
  Pass& pass = *at->second;
  // Parts whose rows all wait already need not be waited for.
  if (pass.left > 0 && !pass.result.waiting.empty()) {
    for (PassPart& part : pass.parts) {
      if (part.done || part.given_up || part.visit) continue;
      const bool wanted =
          std::ranges::any_of(part.request.rows, [&](std::uint32_t row) { return pass.result.waiting[row] == 0; });
      if (wanted) continue;
      part.given_up = true;
      --pass.left;
    }
  }
  if (pass.left > 0) return;
  if (pass.result.waiting.empty() && !pass.message.visit_all_nodes) pass.result.why_waiting.clear();
  pass.result.visited.assign(pass.visited.begin(), pass.visited.end());
  if (settings_.observer != nullptr) settings_.observer->on_answered(pass.message, pass.result);
  pass.reply.send(std::move(pass.result));
  passes_.erase(at);
}

std::string Router::node_name(NodeId node) const {
  const cluster::Member* member = view_ == nullptr ? nullptr : view_->find(node);
  return member == nullptr ? std::to_string(node.value) : member->name;
}

PeerPace& Router::pace(NodeId node, MessageClass urgency) { return paces_[{node, urgency}]; }

}  // namespace consort::actors
