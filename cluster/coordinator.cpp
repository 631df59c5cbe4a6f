// The Coordinator's rule: decide, log, and only when the log is synced answer and tell. What is not in the log
// (addresses, profiles, who beats) is told again by the nodes themselves after a restart.
#include "cluster/coordinator.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "cluster/coordinator_state.hpp"

namespace consort::cluster {

using runtime::Context;
using runtime::Error;
using runtime::ErrorKind;
using runtime::Incarnation;
using runtime::NodeId;
using runtime::ReplyTo;

Coordinator::Coordinator(PostOffice& post_office, CoordinatorOptions options)
    : state_(std::make_unique<State>(*this, post_office, std::move(options))) {}
Coordinator::~Coordinator() = default;

void Coordinator::on_start() { state_->start(); }

// --- join ------------------------------------------------------------------------------------------------------------

std::optional<Error> Coordinator::State::refusal(const Join& join) const {
  const auto invalid = [](std::string text) { return Error{ErrorKind::kInvalid, std::move(text)}; };
  if (config_of(join.node) == nullptr) {
    return invalid("node " + std::to_string(join.node.value) + " is not in the cluster file " + options.config.path);
  }
  if (join.protocol != kClusterProtocolVersion) {
    return invalid("the node speaks protocol " + std::to_string(join.protocol) + ", the Coordinator " +
                   std::to_string(kClusterProtocolVersion) + ": run the same build everywhere");
  }
  if (join.build != options.build) {
    return invalid("the node runs build " + join.build + ", the Coordinator " + options.build +
                   ": run the same build everywhere");
  }
  if (join.manifest != options.manifest) {
    return invalid("the node reads another model (manifest " + join.manifest + ") than the Coordinator (" +
                   options.manifest + "): give all nodes the same files");
  }
  return std::nullopt;
}

void Coordinator::on(Join join, ReplyTo<Joined> reply, const Context& context) {
  State& s = *state_;
  if (!s.started) return reply.reject({ErrorKind::kExhausted, "the Coordinator is starting; try again"});
  (void)s.post.connect(Plane::kControl, join.node, context.source.incarnation, join.control_address);
  if (join.node != context.source.node) {
    return reply.reject({ErrorKind::kInvalid, "a node can only join for itself"});
  }
  if (auto why = s.refusal(join)) {
    s.refused[join.node] = why->text;
    return reply.reject(*std::move(why));
  }

  const DecidedState::Node known = s.decided.nodes[join.node];
  const bool lives = known.incarnation.value != 0 && !known.dead;
  if (join.incarnation.value != 0) {  // a node that was here before this term
    if (!lives || join.incarnation != known.incarnation) {
      return reply.reject({ErrorKind::kStaleIncarnation,
                           "incarnation " + std::to_string(join.incarnation.value) + " of this node is over"});
    }
    s.enter(join, known.incarnation);
    return reply.send({{}, known.incarnation});
  }
  if (known.incarnation.value != 0 && known.boot == join.boot) {  // the answer to an earlier Join was lost
    if (!lives) return reply.reject({ErrorKind::kStaleIncarnation, "this life of the node was declared dead"});
    return s.when_synced([this, join = std::move(join), reply = std::move(reply), life = known.incarnation]() mutable {
      state_->enter(join, life);
      reply.send({{}, life});
    });
  }
  if (lives) s.declare_dead(join.node, known.incarnation, "its process was started anew", false);
  const Incarnation life{known.incarnation.value + 1};
  s.commit(NodeIncarnated{join.node, life, join.boot},
           [this, join = std::move(join), reply = std::move(reply), life]() mutable {
             state_->enter(join, life);
             reply.send({{}, life});
           });
}

// The node is here, with all that it told of itself.
void Coordinator::State::enter(const Join& join, Incarnation life) {
  const auto decided_life = decided.nodes.find(join.node);
  if (decided_life == decided.nodes.end() || decided_life->second.incarnation != life || decided_life->second.dead)
    return;
  Life& node = lives[join.node];
  const NodeProfile before = node.profile;
  node = {};
  node.registered = life;
  node.data_address = join.data_address;
  node.control_address = join.control_address;
  node.data_token = join.data_token;
  node.profile = join.profile.expert_bytes_per_second > 0 ? join.profile : before;
  node.profile.memory_bytes = join.profile.memory_bytes;
  node.profile.trunk_bytes = join.profile.trunk_bytes;
  node.loaded = join.loaded;
  node.part_count = join.part_count;
  node.part_bytes = join.part_bytes;
  node.checkpoint_bytes_read = join.checkpoint_bytes_read;
  node.heard = self.now();
  to_replace.erase(join.node);
  given_up.erase(join.node);
  refused.erase(join.node);
  post.expect(join.node, life);
  plan_if_ready();
  publish();
}

// --- what nodes report -----------------------------------------------------------------------------------------------

void Coordinator::on(ReportProfile message, ReplyTo<ProfileTaken> reply, const Context& context) {
  State& s = *state_;
  Life* node = s.registered(message.node, context.source.incarnation);
  if (node == nullptr) return reply.reject({ErrorKind::kExhausted, "the node is not registered; join first"});
  node->profile = message.profile;
  node->checkpoint_bytes_read = message.checkpoint_bytes_read;
  s.plan_if_ready();
  s.publish();
  reply.send({});
}

void Coordinator::on(PartsReady message, ReplyTo<PartsAccepted> reply, const Context& context) {
  State& s = *state_;
  Life* node = s.registered(message.node, context.source.incarnation);
  if (node == nullptr) return reply.reject({ErrorKind::kExhausted, "the node is not registered; join first"});
  const bool was_ready = s.state_of(message.node) == NodeState::kReady;
  const bool same = was_ready && node->part_count == message.part_count && node->part_bytes == message.part_bytes;
  node->loaded = std::max(node->loaded, message.epoch);
  node->part_count = message.part_count;
  node->part_bytes = message.part_bytes;
  node->checkpoint_bytes_read = message.checkpoint_bytes_read;
  if (!same) s.publish();
  reply.send({});
}

void Coordinator::on(Heartbeat beat, const Context& context) {
  State& s = *state_;
  const NodeId node = context.source.node;
  const auto known = s.decided.nodes.find(node);
  if (!s.started || known == s.decided.nodes.end() || known->second.dead) return;
  if (known->second.incarnation != context.source.incarnation) return;
  Life& life = s.lives[node];
  life.heard = now();
  if (!s.is_registered(node, life)) {
    return tell(runtime::RefTo<MembershipProtocol>{{node, context.source.incarnation, actor_id(Role::kMembership)}},
                RegisterAgain{});
  }
  const bool first = !std::exchange(life.beats, true);
  if (s.view == nullptr || beat.view_version >= s.view->version) return;
  if (first || now() - life.view_sent >= kViewAgain) s.send_view(node, life);
}

// --- agents ----------------------------------------------------------------------------------------------------------

void Coordinator::on(AgentHello hello, ReplyTo<AgentWelcome> reply, const Context& context) {
  State& s = *state_;
  if (!s.started) return reply.reject({ErrorKind::kExhausted, "the Coordinator is starting; try again"});
  const NodeId node = context.source.node;
  (void)s.post.connect(Plane::kControl, node, context.source.incarnation, hello.control_address);
  State::Agent& agent = s.agents[node];
  agent.ref = {{node, context.source.incarnation, actor_id(Role::kNodeAgent)}};
  for (const auto& child : hello.children) {
    s.agent_of[child.node] = node;
    if (child.given_up && !child.running) {
      s.given_up[child.node] = child.trouble;
    } else {
      s.given_up.erase(child.node);
    }
    s.child_ended(child.node, child.ended, child.trouble);
  }
  if (s.view != nullptr && hello.view_version < s.view->version) tell(agent.ref, ViewUpdate{{}, s.public_view()});
  s.plan_if_ready();
  reply.send({});
}

void Coordinator::on(ChildExited message, const Context& context) {
  State& s = *state_;
  const NodeId agent = context.source.node;
  if (!s.started || agent.value < kFirstAgentNode || is_client(agent)) return;
  if (message.given_up) s.given_up[message.node] = message.description;
  s.child_ended(message.node, message.incarnation, message.description);
  s.plan_if_ready();
}

void Coordinator::State::child_ended(NodeId node, Incarnation life, const std::string& how) {
  const auto known = decided.nodes.find(node);
  if (known == decided.nodes.end() || known->second.dead || life.value == 0) return;
  if (known->second.incarnation == life) declare_dead(node, life, "its process ended: " + how, false);
}

// Does another node with the role trunk live?
bool Coordinator::State::has_other_trunk(NodeId node) const {
  for (std::size_t i = 0; i < options.config.nodes.size(); ++i) {
    const NodeId other = ClusterConfig::node_id(i);
    const auto life = lives.find(other);
    if (other == node || !options.config.nodes[i].roles.trunk || life == lives.end()) continue;
    if (is_registered(other, life->second)) return true;
  }
  return false;
}

// --- operator --------------------------------------------------------------------------------------------------------

void Coordinator::on(LeaveCluster message, ReplyTo<LeftCluster> reply) {
  State& s = *state_;
  if (!s.started) return reply.reject({ErrorKind::kExhausted, "the Coordinator is starting; try again"});
  const NodeConfig* config = s.config_of(message.node);
  if (config == nullptr) return reply.reject({ErrorKind::kInvalid, "there is no such node"});
  if (config->roles.batcher || config->roles.coordinator) {
    return reply.reject({ErrorKind::kInvalid, "node " + config->name + " has the role " +
                                                  (config->roles.batcher ? "batcher" : "coordinator") +
                                                  ", and the cluster cannot be without it"});
  }
  const DecidedState::Node known = s.decided.nodes[message.node];
  if (config->roles.trunk && !known.left && !s.has_other_trunk(message.node)) {
    return reply.reject({ErrorKind::kInvalid, "node " + config->name +
                                                  " is the last one here with the role trunk, and no token can be "
                                                  "computed without it"});
  }
  if (known.left) return s.when_synced([reply = std::move(reply)]() mutable { reply.send({}); });
  std::optional<Plan> plan;
  if (!s.decided.placement.empty() && config->roles.experts) {
    auto without = make_plan(s.plan_request(message.node));
    if (!without.ok()) {
      return reply.reject({ErrorKind::kInvalid, "node " + config->name + " cannot leave: " + without.error().text});
    }
    plan = std::move(without).value();
  }
  s.commit(NodeLeft{message.node}, [] {});
  if (plan) s.decide_placement(*std::move(plan));
  if (known.incarnation.value != 0 && !known.dead) s.declare_dead(message.node, known.incarnation, "it left", true);
  s.when_synced([reply = std::move(reply)]() mutable { reply.send({}); });
}

void Coordinator::on(ClusterStatus, ReplyTo<ClusterStatusReport> reply) {
  State& s = *state_;
  ClusterStatusReport report;
  report.view = s.view == nullptr ? std::make_shared<const ClusterView>(s.draw_view()) : s.view;
  report.view = without_tokens(*report.view);
  auto trouble = s.trouble();
  report.trouble = std::move(trouble.words);
  report.needs_operator = trouble.needs_operator;
  report.prediction = s.prediction;
  report.answered_by = self().node;
  for (const auto& [node, life] : s.lives) {
    if (s.is_registered(node, life) && now() - life.heard > s.options.config.suspect_after)
      report.suspected.push_back(node);
  }
  report.counters = s.post.counters().named();
  reply.send(std::move(report));
}

}  // namespace consort::cluster
