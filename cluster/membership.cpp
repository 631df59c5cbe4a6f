// A worker's life in the cluster, in the order in which it happens: join, views, peers, parts; then what it answers.
// Probing is in prober.cpp. With the Coordinator gone everything but changes goes on.
#include "cluster/membership.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "cluster/prober.hpp"
#include "cluster/roles.hpp"

namespace consort::cluster {

using runtime::Context;
using runtime::Duration;
using runtime::Epoch;
using runtime::Error;
using runtime::ErrorKind;
using runtime::Incarnation;
using runtime::Instant;
using runtime::NodeId;
using runtime::Outcome;
using runtime::RefTo;
using runtime::ReplyTo;

namespace {

constexpr Duration kJoinDeadline = std::chrono::seconds(1);
constexpr Duration kFirstBackoff = std::chrono::milliseconds(100);
constexpr Duration kLastBackoff = std::chrono::seconds(2);
constexpr Duration kReportDeadline = std::chrono::seconds(1);
constexpr Duration kReportAgain = std::chrono::milliseconds(500);
constexpr Duration kLoadDeadline = std::chrono::minutes(30);  // 100 GB from one slow disk
constexpr Duration kLoadAgain = std::chrono::seconds(1);
constexpr std::uint16_t kProberActor = 100;                       // never addressed from elsewhere
constexpr Duration kProbeWithoutPeers = std::chrono::seconds(3);  // links to nodes that come later are not measured
constexpr int kBeatsPerWord = 10;                                 // to the agent, who we are; a lost tell is said again
constexpr int kSilencesToRewire =
    8;  // suspicions in a row (4 s) of a node that the Coordinator still hears: a new wire

struct Peer {
  Incarnation incarnation;
  Instant since;  // silence counts from here at the earliest
  bool suspected = false;
  std::optional<Instant> wire_lost;  // suspected from then on, until it is heard over a wire again
  Instant next_connect;
  Duration backoff = kFirstBackoff;
};

const RefTo<CoordinatorProtocol> kCoordinator{{kCoordinatorNode, {}, actor_id(Role::kCoordinator)}};

}  // namespace

struct Membership::State {
  State(Membership& actor, PostOffice& post_office, MembershipOptions given)
      : self(actor), post(post_office), options(std::move(given)) {}

  Membership& self;
  PostOffice& post;
  const MembershipOptions options;
  std::uint64_t boot = 0;
  Incarnation incarnation;  // 0: not joined
  bool joining = false;
  Duration join_backoff = kFirstBackoff;
  ClusterViewPtr view;
  std::map<NodeId, Peer> peers;  // the other workers that live
  bool probing_started = false;
  NodeProfile profile;

  std::vector<PartId> loaded_parts;
  Epoch loaded;  // the latest epoch for which loaded_parts are the right ones; 0: none
  PartsLoaded holding;
  bool loading = false;
  Epoch reported;  // that the Coordinator has accepted
  bool reporting = false;

  Instant last_beat;
  std::uint64_t beat_count = 0;

  void start();
  void join();
  void joined(Incarnation life);
  void tell_agent();
  void tell_coordinator();
  void consider_probing();
  void report_profile(const NodeProfile& measured);
  void take_view(ClusterViewPtr next);
  void note_peers();
  void lose(NodeId node, Incarnation life, const std::string& why);
  void beat();
  void watch(Instant now, bool late);
  void suspect(NodeId node, Peer& peer, bool suspected);
  void connect(const Member& member, Peer& peer, Instant now);
  void load_parts();
  void report_parts();
  std::uint64_t bytes_read() const { return options.checkpoint_bytes_read ? options.checkpoint_bytes_read() : 0; }
  template <class M>
  void tell_subscribers(const M& message) {
    for (const auto& subscriber : options.subscribers) self.tell(subscriber, message);
  }
};

Membership::Membership(PostOffice& post_office, MembershipOptions options)
    : state_(std::make_unique<State>(*this, post_office, std::move(options))) {}
Membership::~Membership() = default;

void Membership::on_start() { state_->start(); }
void Membership::on_stop() {
  state_->post.on_own_end(nullptr);
  state_->post.on_peer_hint(nullptr);
}

void Membership::State::start() {
  boot = self.env().rng.next();
  profile.memory_bytes = options.memory_bytes;
  profile.trunk_bytes = options.trunk_bytes;
  post.on_own_end([this](std::string_view why) { self.env().terminator.terminate(why); });
  post.on_peer_hint([this](NodeId node, Plane plane, runtime::PeerChange change, std::string_view) {
    // A Coordinator of a new term does not know the way to this node, and cannot ask for it.
    if (node == kCoordinatorNode && change == runtime::PeerChange::kConnected && incarnation.value != 0) join();
    const auto peer = peers.find(node);
    if (plane != Plane::kData || peer == peers.end()) return;
    if (change == runtime::PeerChange::kConnected) {
      peer->second.backoff = kFirstBackoff;
      return;
    }
    peer->second.wire_lost = self.env().clock.now();
    suspect(node, peer->second, true);
  });
  last_beat = self.now();
  join();
  beat();
}

// --- join ------------------------------------------------------------------------------------------------------------

void Membership::State::join() {
  if (joining) return;
  joining = true;
  (void)post.connect(Plane::kControl, kCoordinatorNode, {}, options.coordinator_address);
  Join message;
  message.node = options.node;
  message.incarnation = incarnation;
  message.boot = boot;
  message.manifest = options.manifest;
  message.build = options.build;
  if (const auto* data = self.env().data) {
    message.data_address = data->address();
    message.data_token = data->token();
  }
  if (const auto* control = self.env().control) message.control_address = control->address();
  message.profile = profile;
  message.loaded = loaded;
  message.part_count = holding.part_count;
  message.part_bytes = holding.part_bytes;
  message.checkpoint_bytes_read = bytes_read();
  self.ask(kCoordinator, std::move(message), kJoinDeadline).then([this](Outcome<Joined> outcome) {
    joining = false;
    if (outcome.ok()) return joined(outcome->incarnation);
    const Error& error = outcome.error();
    if (error.kind == ErrorKind::kStaleIncarnation && incarnation.value == 0) {
      // The answer to an earlier Join came too late, and that life was buried unlived: this process begins another.
      boot = self.env().rng.next();
    } else if (error.kind == ErrorKind::kStaleIncarnation || error.kind == ErrorKind::kInvalid) {
      return self.env().terminator.terminate("node " + options.name + " may not join: " + error.text);
    }
    self.after(join_backoff, [this] { join(); });
    join_backoff = std::min(2 * join_backoff, kLastBackoff);
  });
}

void Membership::State::joined(Incarnation life) {
  join_backoff = kFirstBackoff;
  reported = {};  // a Coordinator of another term knows nothing of it
  if (incarnation.value == 0) {
    if (options.on_joined) options.on_joined(life);
    self.loop().set_incarnation(life);
    incarnation = life;
    if (options.agent.value != 0) {
      (void)post.connect(Plane::kControl, options.agent, {}, options.agent_address);
      tell_agent();
    }
    self.after(kProbeWithoutPeers, [this] { consider_probing(); });
  }
  tell_coordinator();  // its answer is the view
  report_parts();
}

void Membership::State::tell_coordinator() {
  self.tell(kCoordinator, Heartbeat{{}, ++beat_count, view == nullptr ? 0 : view->version});
}

void Membership::State::tell_agent() {
  WorkerJoined message{{}, options.node, incarnation, {}};
  if (const auto* control = self.env().control) message.control_address = control->address();
  self.tell(RefTo<NodeAgentProtocol>{{options.agent, {}, actor_id(Role::kNodeAgent)}}, std::move(message));
}

void Membership::on(RegisterAgain, const Context& context) {
  if (context.source.node == kCoordinatorNode && state_->incarnation.value != 0) state_->join();
}

// Once all workers are here, or have had their time to come; not where a placement is in force already.
void Membership::State::consider_probing() {
  if (probing_started || !options.parts || incarnation.value == 0) return;
  if (view != nullptr && !view->placement.empty()) return;
  Prober::Options probing;
  probing.node = options.node;
  probing.parts = *options.parts;
  if (options.agent.value != 0) probing.agent = {{options.agent, {}, actor_id(Role::kNodeAgent)}};
  for (const auto& [node, peer] : peers)
    probing.peers.push_back({{node, peer.incarnation, actor_id(Role::kMembership)}});
  const auto done = self.as_turn<NodeProfile>([this](NodeProfile measured) { report_profile(measured); });
  probing_started = true;
  self.spawn(kProberActor, 0, [probing, done] { return std::make_unique<Prober>(probing, done); });
}

void Membership::State::report_profile(const NodeProfile& measured) {
  profile.expert_bytes_per_second = measured.expert_bytes_per_second;
  profile.link_delay_seconds = measured.link_delay_seconds;
  profile.link_bytes_per_second = measured.link_bytes_per_second;
  self.ask(kCoordinator, ReportProfile{{}, options.node, profile, bytes_read()}, kReportDeadline)
      .then([this, measured](Outcome<ProfileTaken> outcome) {
        if (!outcome.ok()) self.after(kReportAgain, [this, measured] { report_profile(measured); });
      });
}

// --- views and peers -------------------------------------------------------------------------------------------------

void Membership::on(ViewUpdate message, const Context& context) {
  if (context.source.node == kCoordinatorNode) state_->take_view(std::move(message.view));
}

void Membership::State::take_view(ClusterViewPtr next) {
  if (incarnation.value == 0 || (view != nullptr && next->version <= view->version)) return;
  const Member* own = next->find(options.node);
  if (own == nullptr || own->incarnation != incarnation) {
    return self.env().terminator.terminate("incarnation " + std::to_string(incarnation.value) + " of node " +
                                           options.name + " is over by the Coordinator's view");
  }
  view = std::move(next);
  note_peers();
  tell_subscribers(ViewChanged{view});
  load_parts();
  if (view->placement.empty() && peers.size() + 1 >= options.worker_count) consider_probing();
}

void Membership::State::note_peers() {
  for (const Member& member : view->members) {
    if (member.node == options.node) continue;
    const auto known = peers.find(member.node);
    if (known != peers.end() && known->second.incarnation != member.incarnation) {
      lose(member.node, known->second.incarnation, "the Coordinator says that it is over");
    }
    if (member.incarnation.value == 0 || post.is_dead(member.node, member.incarnation)) continue;
    post.expect(member.node, member.incarnation);
    const auto [peer, added] = peers.try_emplace(member.node);
    if (!added) continue;
    peer->second.incarnation = member.incarnation;
    peer->second.since = self.now();
    connect(member, peer->second, self.now());
  }
}

// Idempotent: an agent, the Coordinator's view and a frame of a later life may all say so.
void Membership::State::lose(NodeId node, Incarnation life, const std::string& why) {
  if (life.value == 0) return;
  post.forget(node, life, "node " + std::to_string(node.value) + " is lost: " + why);
  const auto peer = peers.find(node);
  if (peer == peers.end() || peer->second.incarnation != life) return;
  peers.erase(peer);
  tell_subscribers(PeerLost{node, life});
}

void Membership::on(ChildExited message) {
  state_->lose(message.node, message.incarnation, "its process ended: " + message.description);
}

void Membership::State::connect(const Member& member, Peer& peer, Instant now) {
  if (self.env().data == nullptr) return;
  (void)post.connect(Plane::kData, member.node, member.incarnation, member.data_address, member.data_token);
  peer.next_connect = now + peer.backoff;
  peer.backoff = std::min(2 * peer.backoff, kLastBackoff);
}

// --- heartbeats ------------------------------------------------------------------------------------------------------

// From the data loop itself: a loop that hangs falls silent, and then it also suspects nobody.
void Membership::State::beat() {
  const Instant now = self.now();
  const bool late = now - std::exchange(last_beat, now) > 2 * options.heartbeat_every;
  if (incarnation.value != 0) {
    tell_coordinator();
    const Heartbeat beat{{}, beat_count, view == nullptr ? 0 : view->version};
    for (const auto& [node, peer] : peers) {
      self.tell(RefTo<MembershipProtocol>{{node, peer.incarnation, actor_id(Role::kMembership)}}, beat);
    }
    if (options.agent.value != 0 && beat_count % kBeatsPerWord == 0) {
      tell_agent();
    }
    watch(now, late);
  }
  self.after(options.heartbeat_every, [this] { this->beat(); });
}

void Membership::State::watch(Instant now, bool late) {
  for (auto& [node, peer] : peers) {
    if (late) peer.since = now;  // what they sent may still wait to be read
    const Instant heard = std::max(peer.since, post.last_heard(node, Plane::kData).value_or(peer.since));
    const Duration silence = now - heard;
    if (peer.wire_lost && post.connected(Plane::kData, node) && heard > *peer.wire_lost &&
        now - *peer.wire_lost >= options.heartbeat_every) {  // by then everybody has heard which asks were lost
      peer.wire_lost.reset();
    }
    const bool suspected = silence > options.suspect_after || peer.wire_lost.has_value();
    if (!late || suspected == peer.suspected) suspect(node, peer, suspected);
    if (self.env().data == nullptr || view == nullptr) continue;
    const Member* member = view->find(node);
    if (member == nullptr || now < peer.next_connect) continue;
    if (!post.connected(Plane::kData, node)) {
      connect(*member, peer, now);
    } else if (silence > kSilencesToRewire * options.suspect_after) {
      post.disconnect(Plane::kData, node);
      connect(*member, peer, now);
    }
  }
}

void Membership::State::suspect(NodeId node, Peer& peer, bool suspected) {
  if (std::exchange(peer.suspected, suspected) == suspected) return;
  tell_subscribers(PeerSuspected{node, peer.incarnation, suspected});
}

void Membership::on(Heartbeat) {}  // the post office has noted that the peer was heard

// --- parts -----------------------------------------------------------------------------------------------------------

void Membership::State::load_parts() {
  if (loading || view == nullptr || view->placement.empty()) return;
  LoadParts wanted;
  wanted.epoch = view->epoch;
  for (const auto& [part, holders] : view->placement) {
    if (std::find(holders.begin(), holders.end(), options.node) != holders.end()) wanted.parts.push_back(part);
  }
  const bool has_all = options.parts ? loaded.value != 0 && wanted.parts == loaded_parts : true;
  if (has_all) {
    loaded = std::max(loaded, wanted.epoch);
    return report_parts();
  }
  loading = true;
  self.ask(*options.parts, wanted, kLoadDeadline).then([this, wanted](Outcome<PartsLoaded> outcome) {
    loading = false;
    if (!outcome.ok()) return (void)self.after(kLoadAgain, [this] { load_parts(); });
    loaded_parts = wanted.parts;
    loaded = wanted.epoch;
    holding = *outcome;
    load_parts();  // the placement may have changed meanwhile
  });
}

void Membership::State::report_parts() {
  if (reporting || loaded.value == 0 || loaded <= reported || incarnation.value == 0) return;
  reporting = true;
  const Epoch epoch = loaded;
  self.ask(kCoordinator, PartsReady{{}, options.node, epoch, holding.part_count, holding.part_bytes, bytes_read()},
           kReportDeadline)
      .then([this, epoch](Outcome<PartsAccepted> outcome) {
        reporting = false;
        if (!outcome.ok()) return (void)self.after(kReportAgain, [this] { report_parts(); });
        reported = epoch;
        report_parts();
      });
}

// --- what others ask -------------------------------------------------------------------------------------------------

void Membership::on(LinkEcho, ReplyTo<LinkEchoed> reply) { reply.send({}); }

void Membership::on(ClusterStatus, ReplyTo<ClusterStatusReport> reply) {
  State& s = *state_;
  ClusterStatusReport report;
  auto shown = std::make_shared<ClusterView>(s.view == nullptr ? ClusterView{} : *s.view);
  for (Member& member : shown->members) member.data_token = {};
  report.view = std::move(shown);
  report.answered_by = s.options.node;
  for (const auto& [node, peer] : s.peers) {
    if (peer.suspected) report.suspected.push_back(node);
  }
  // It gives the slots of our heartbeats back several times a second.
  const auto heard = s.post.last_heard(kCoordinatorNode, Plane::kControl);
  report.coordinator_reachable = heard && now() - *heard <= 4 * s.options.suspect_after;
  report.counters = s.post.counters().named();
  reply.send(std::move(report));
}

void Membership::on(CollectTrace, ReplyTo<NodeTraceEvents> reply) {
  reply.send(pack_trace(state_->options.node, state_->options.name, now(), env().trace.events()));
}

void Membership::on(EnableTrace message, ReplyTo<TraceEnabled> reply) {
  env().trace.enable(message.on);
  reply.send({});
}

void Membership::on(ReadFigures, ReplyTo<NodeFiguresRead> reply) {
  NodeFiguresRead read;
  if (state_->options.figures) read.figures = state_->options.figures();
  read.figures.node = state_->options.node;
  read.figures.incarnation = state_->incarnation;
  read.figures.at_ns = now().time_since_epoch().count();
  reply.send(std::move(read));
}

}  // namespace consort::cluster
