// How the Coordinator decides: through the log, then to everybody.
#include <algorithm>
#include <utility>

#include "cluster/coordinator_state.hpp"
#include "runtime/event_loop.hpp"
#include "runtime/frame.hpp"

namespace consort::cluster {

using runtime::Callback;
using runtime::Duration;
using runtime::Epoch;
using runtime::Incarnation;
using runtime::Instant;
using runtime::NodeId;
using runtime::Outcome;
using runtime::RefTo;
using runtime::Status;

namespace {

constexpr Duration kTick = std::chrono::milliseconds(100);
// A tick that comes this late means that heartbeats may wait unread: everybody gets a fresh time.
constexpr Duration kLate = std::chrono::milliseconds(300);
constexpr Duration kAgentDeadline = std::chrono::seconds(1);

RefTo<MembershipProtocol> membership_of(NodeId node, Incarnation life) {
  return {{node, life, actor_id(Role::kMembership)}};
}

}  // namespace

ClusterViewPtr without_tokens(const ClusterView& view) {
  auto copy = std::make_shared<ClusterView>(view);
  for (Member& member : copy->members) member.data_token = {};
  return copy;
}

// --- start and log ---------------------------------------------------------------------------------------------------

void Coordinator::State::start() {
  const auto give_up = [&](const std::string& why) { self.env().terminator.terminate(why); };
  CONSORT_CHECK(self.env().disk != nullptr, "the Coordinator needs a disk");
  auto opened = DecisionLog::open(*self.env().disk, options.log_path);
  if (!opened.ok()) return give_up(opened.error().text);
  log = std::move(opened).value();
  decided = log->recovered();
  if (decided.term.value != 0 && decided.manifest != options.manifest) {
    return give_up("the cluster's log " + options.log_path + " belongs to another model (manifest " + decided.manifest +
                   ", this is " + options.manifest + "): give the cluster another name, or move the log away");
  }
  if (options.numeric_plan && decided.numeric_plan && *options.numeric_plan != *decided.numeric_plan) {
    return give_up("the cluster's log " + options.log_path +
                   " holds another numeric plan than the one asked for: it is decided once; give the cluster another "
                   "name, or move the log away");
  }
  const Incarnation term{decided.term.value + 1};
  commit(TermStarted{term, options.manifest}, [this, term] {
    self.loop().set_incarnation(term);
    started = true;
    last_tick = self.now();
    // Whoever lives by the log has a fresh time to beat in.
    for (const auto& [node, known] : decided.nodes) {
      if (is_alive(node)) lives[node].heard = self.now();
      if (known.dead) post.forget(node, known.incarnation, "it was declared dead");
    }
    tick();
  });
}

// `then` runs when the decision would survive a power cut; until then nobody may hear of it.
void Coordinator::State::commit(Decision decision, Callback<void()> then) {
  decided.apply(decision);
  ++syncing;
  after_sync.push_back(std::move(then));
  log->append(decision, self.as_turn<Status>([this](Status synced) {
    if (!synced.ok()) {
      return self.env().terminator.terminate("the Coordinator's log cannot be written: " + synced.error().text);
    }
    if (--syncing > 0) return;  // all or none: a later record must not be told before an earlier one
    for (auto& action : std::exchange(after_sync, {})) action();
    if (std::exchange(publish_wanted, false)) publish();
  }));
}

void Coordinator::State::when_synced(Callback<void()> then) {
  if (syncing == 0) return then();
  after_sync.push_back(std::move(then));
}

// --- lives -----------------------------------------------------------------------------------------------------------

const NodeConfig* Coordinator::State::config_of(NodeId node) const {
  const auto index = static_cast<std::size_t>(node.value) - 1;
  return is_worker(node) && index < options.config.nodes.size() ? &options.config.nodes[index] : nullptr;
}

bool Coordinator::State::is_alive(NodeId node) const {
  const auto known = decided.nodes.find(node);
  return known != decided.nodes.end() && known->second.incarnation.value != 0 && !known->second.dead;
}

bool Coordinator::State::is_registered(NodeId node, const Life& life) const {
  return is_alive(node) && life.registered == decided.nodes.at(node).incarnation;
}

Life* Coordinator::State::registered(NodeId node, Incarnation life) {
  const auto known = lives.find(node);
  if (!started || known == lives.end() || !is_registered(node, known->second)) return nullptr;
  return known->second.registered == life ? &known->second : nullptr;
}

NodeState Coordinator::State::state_of(NodeId node) const {
  const auto known = lives.find(node);
  if (known == lives.end() || !is_registered(node, known->second)) return NodeState::kAbsent;
  if (!placement_fits()) return NodeState::kJoined;
  return known->second.loaded >= decided.placement_epoch ? NodeState::kReady : NodeState::kLoading;
}

void Coordinator::State::tick() {
  const Instant now = self.now();
  const bool late = now - std::exchange(last_tick, now) > kLate;
  for (auto& [node, life] : lives) {
    if (!is_alive(node)) continue;
    // A life that is being written down has not heard of itself: what is known of its node is the life before it.
    if (late || (syncing > 0 && !is_registered(node, life))) life.heard = now;
    if (now - life.heard <= options.config.dead_after) continue;
    declare_dead(node, decided.nodes.at(node).incarnation,
                 "no heartbeat for " +
                     std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(now - life.heard).count()) +
                     " ms",
                 true);
  }
  ask_replacements();
  self.after(kTick, [this] { tick(); });
}

void Coordinator::State::declare_dead(NodeId node, Incarnation life, std::string why, bool replace) {
  if (replace) to_replace[node] = {life, !decided.nodes[node].left, why, false};
  const std::string words = "node " + std::to_string(node.value) + " was declared dead: " + why;
  commit(NodeDied{node, life, Epoch{decided.epoch.value + 1}, std::move(why)}, [this, node, life, words] {
    post.forget(node, life, words);
    publish();
    ask_replacements();
  });
}

void Coordinator::State::ask_replacements() {
  if (syncing > 0) return;
  for (auto& [node, replacement] : to_replace) {
    const auto agent = agent_of.find(node);
    if (agent == agent_of.end() || replacement.asking) continue;
    replacement.asking = true;
    self.ask(agents.at(agent->second).ref,
             NodeLost{{}, node, replacement.incarnation, replacement.restart, replacement.why}, kAgentDeadline)
        .then([this, node = node, life = replacement.incarnation](Outcome<NodeReplaced> outcome) {
          const auto asked = to_replace.find(node);
          if (asked == to_replace.end() || asked->second.incarnation != life) return;
          asked->second.asking = false;
          if (outcome.ok()) to_replace.erase(asked);  // else the next tick asks again
        });
  }
}

// --- plan ------------------------------------------------------------------------------------------------------------

// What of the config a placement depends on. Another shape at a later `up` means another placement, not another cut.
std::uint32_t Coordinator::State::shape() const {
  std::string text = "replicas " + std::to_string(options.config.replicas);
  for (std::size_t i = 0; i < options.config.nodes.size(); ++i) {
    const NodeConfig& node = options.config.nodes[i];
    const auto known = decided.nodes.find(ClusterConfig::node_id(i));
    if (!node.roles.experts || (known != decided.nodes.end() && known->second.left)) continue;
    text += "; " + std::to_string(i + 1) + " " + node.name + " " + std::to_string(node.memory_bytes.value_or(0));
  }
  return runtime::crc32c(std::as_bytes(std::span(text)));
}

bool Coordinator::State::placement_fits() const {
  return !decided.placement.empty() && decided.placement_shape == shape();
}

PlanRequest Coordinator::State::plan_request(NodeId without) const {
  PlanRequest request;
  request.model = options.model;
  request.replicas = options.config.replicas;
  request.columns = options.config.columns;
  request.numeric_plan = decided.numeric_plan ? decided.numeric_plan : options.numeric_plan;
  if (without.value != 0) request.existing = decided.placement;
  for (std::size_t i = 0; i < options.config.nodes.size(); ++i) {
    const NodeId node = ClusterConfig::node_id(i);
    const auto known = lives.find(node);
    const auto by_log = decided.nodes.find(node);
    if (!options.config.nodes[i].roles.experts || node == without || known == lives.end()) continue;
    if (by_log != decided.nodes.end() && by_log->second.left) continue;
    if (known->second.profile.expert_bytes_per_second <= 0) continue;
    request.nodes.push_back({node, options.config.nodes[i].name, known->second.profile});
  }
  return request;
}

// Once all experts nodes that can come have measured themselves.
void Coordinator::State::plan_if_ready() {
  if (!started || placement_fits() || options.model.expert_layers.empty()) return;
  bool any = false;
  for (std::size_t i = 0; i < options.config.nodes.size(); ++i) {
    const NodeId node = ClusterConfig::node_id(i);
    const auto known = decided.nodes.find(node);
    const bool left = known != decided.nodes.end() && known->second.left;
    if (!options.config.nodes[i].roles.experts || left || given_up.count(node) != 0) continue;
    const auto life = lives.find(node);
    if (life == lives.end() || !is_registered(node, life->second)) return;
    if (life->second.profile.expert_bytes_per_second <= 0) return;
    any = true;
  }
  if (!any) return;
  auto plan = make_plan(plan_request({}));
  if (!plan.ok()) {
    plan_refusal = plan.error().text;
    return;
  }
  plan_refusal.clear();
  decide_placement(std::move(plan).value());
}

void Coordinator::State::decide_placement(Plan plan) {
  prediction = plan.forecast.sentence;
  if (!decided.numeric_plan) commit(NumericPlanDecided{plan.numeric}, [] {});
  commit(PlacementDecided{Epoch{decided.epoch.value + 1}, std::move(plan.placement), shape(), {}},
         [this] { publish(); });
}

// --- view ------------------------------------------------------------------------------------------------------------

// After a restart the log's nodes are alive until they fail to beat. A view without their addresses would bury them.
bool Coordinator::State::adopting() const {
  return std::any_of(lives.begin(), lives.end(), [&](const auto& entry) {
    return is_alive(entry.first) && !is_registered(entry.first, entry.second);
  });
}

ClusterView Coordinator::State::draw_view() const {
  ClusterView drawn;
  drawn.epoch = decided.epoch;
  if (decided.numeric_plan) drawn.numeric_plan = *decided.numeric_plan;
  if (placement_fits()) drawn.placement = decided.placement;
  for (std::size_t i = 0; i < options.config.nodes.size(); ++i) {
    Member member;
    member.node = ClusterConfig::node_id(i);
    member.name = options.config.nodes[i].name;
    member.roles = options.config.nodes[i].roles;
    member.state = state_of(member.node);
    if (const auto life = lives.find(member.node); life != lives.end() && member.state != NodeState::kAbsent) {
      member.incarnation = decided.nodes.at(member.node).incarnation;
      member.data_address = life->second.data_address;
      member.control_address = life->second.control_address;
      member.data_token = life->second.data_token;
      member.profile = life->second.profile;
      member.checkpoint_bytes_read = life->second.checkpoint_bytes_read;
      member.part_count = life->second.part_count;
      member.part_bytes = life->second.part_bytes;
    }
    drawn.members.push_back(std::move(member));
  }
  return drawn;
}

void Coordinator::State::publish() {
  if (!started || adopting()) return;
  if (syncing > 0) {
    publish_wanted = true;
    return;
  }
  auto drawn = std::make_shared<ClusterView>(draw_view());
  drawn->version = (std::uint64_t{decided.term.value} << 32) | ++view_count;  // a later term's views are later
  view = std::move(drawn);
  for (auto& [node, life] : lives) {
    if (is_registered(node, life) && life.beats) send_view(node, life);  // else with its first heartbeat
  }
  if (agents.empty()) return;
  const ClusterViewPtr shown = public_view();
  for (const auto& [node, agent] : agents) self.tell(agent.ref, ViewUpdate{{}, shown});
}

void Coordinator::State::send_view(NodeId node, Life& life) {
  life.view_sent = self.now();
  self.tell(membership_of(node, decided.nodes.at(node).incarnation), ViewUpdate{{}, view});
}

Coordinator::State::Trouble Coordinator::State::trouble() const {
  if (!plan_refusal.empty()) return {plan_refusal, true};
  Trouble trouble;
  std::string& text = trouble.words;
  for (std::size_t i = 0; i < options.config.nodes.size(); ++i) {
    const NodeId node = ClusterConfig::node_id(i);
    const NodeState state = state_of(node);
    const auto by_log = decided.nodes.find(node);
    if (state == NodeState::kReady || (by_log != decided.nodes.end() && by_log->second.left)) continue;
    const auto was_refused = refused.find(node);
    const auto gone = given_up.find(node);
    text += (text.empty() ? "" : "; ") + options.config.nodes[i].name;
    if (was_refused != refused.end()) {
      text += " was refused: " + was_refused->second;
      trouble.needs_operator = true;
    } else if (gone != given_up.end() && !is_alive(node)) {
      text += " ended and is not started again: " + gone->second;
      trouble.needs_operator = true;
    } else {
      text += " is " + std::string(name(state));
    }
  }
  return trouble;
}

}  // namespace consort::cluster
