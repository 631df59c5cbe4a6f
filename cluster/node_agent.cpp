#include "cluster/node_agent.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <utility>

#include "cluster/roles.hpp"

namespace consort::cluster {

using runtime::Context;
using runtime::Duration;
using runtime::ErrorKind;
using runtime::Incarnation;
using runtime::Instant;
using runtime::NodeId;
using runtime::Outcome;
using runtime::ProcessExit;
using runtime::ProcessId;
using runtime::RefTo;
using runtime::ReplyTo;

namespace {

constexpr Duration kHelloEvery = std::chrono::seconds(1);
constexpr Duration kProbeTurnLimit = std::chrono::seconds(30);  // a probe takes some seconds; one that hangs blocks nobody
constexpr std::size_t kMaxProbersWaiting = 256;                 // as many as a host has workers
// A life this long starts the back-off anew: one that cannot load its model or join ends sooner, one that was killed in
// the middle of its work is wanted back at once.
constexpr Duration kSteady = std::chrono::seconds(5);
constexpr Duration kLastWords = std::chrono::milliseconds(200); // for the answer to Shutdown to leave
// The program's exit code for a wrong file or flag: starting it again would end the same way.
constexpr std::string_view kWrongUse = "exit code 2";

}  // namespace

struct NodeAgent::State {
  struct Child {
    NodeAgentOptions::Child what;
    ProcessId process = 0;     // 0: not running
    Incarnation incarnation;   // of the running process, once it has joined
    Incarnation ended;
    Instant started_at;
    Duration backoff{0};
    bool may_restart = true;
    bool given_up = false;
    std::string trouble;
  };
  struct Prober {
    NodeId node;
    ReplyTo<ProbeTurn> reply;
  };

  State(NodeAgent& actor, PostOffice& post_office, NodeAgentOptions given)
      : self(actor), post(post_office), options(std::move(given)) {}

  NodeAgent& self;
  PostOffice& post;
  const NodeAgentOptions options;
  std::vector<Child> children;
  ClusterViewPtr view;
  std::deque<Prober> probers;     // waiting
  NodeId probing;                 // whose turn it is; 0: nobody's
  runtime::TimerId probe_limit = 0;
  bool shutting_down = false;

  void start(Child& child);
  void exited(const ProcessExit& exit);
  void after_end(Child& child, const std::string& how);
  void tell_all(const ChildExited& news);
  void hello();
  void next_prober();
  void end_turn(NodeId node);
  void end_if_empty();
  Child* find(NodeId node);
};

NodeAgent::NodeAgent(PostOffice& post_office, NodeAgentOptions options)
    : state_(std::make_unique<State>(*this, post_office, std::move(options))) {}
NodeAgent::~NodeAgent() = default;

void NodeAgent::on_start() {
  State& s = *state_;
  CONSORT_CHECK(env().spawner != nullptr, "an agent needs a process starter");
  env().spawner->on_exit(as_turn<ProcessExit>([this](ProcessExit exit) { state_->exited(exit); }));
  for (const auto& what : s.options.children) s.children.push_back({what, 0, {}, {}, {}, {}, s.options.restart, false, {}});
  for (auto& child : s.children) s.start(child);
  s.hello();
}

NodeAgent::State::Child* NodeAgent::State::find(NodeId node) {
  const auto at = std::find_if(children.begin(), children.end(), [&](const Child& c) { return c.what.node == node; });
  return at == children.end() ? nullptr : &*at;
}

// --- processes -------------------------------------------------------------------------------------------------------

void NodeAgent::State::start(Child& child) {
  if (shutting_down || child.process != 0 || child.given_up) return;
  child.started_at = self.now();
  child.incarnation = {};
  auto started = self.env().spawner->start(child.what.spec);
  if (started.ok()) {
    child.process = *started;
  } else {
    after_end(child, "it did not start: " + started.error().text);
  }
}

void NodeAgent::State::exited(const ProcessExit& exit) {
  const auto at = std::find_if(children.begin(), children.end(), [&](const Child& c) { return c.process == exit.process; });
  if (exit.process == 0 || at == children.end()) return;
  at->process = 0;
  if (at->incarnation.value != 0) at->ended = at->incarnation;
  after_end(*at, exit.description);
}

// Everybody who may wait for an answer from it must hear first; then it is started anew.
void NodeAgent::State::after_end(Child& child, const std::string& how) {
  child.trouble = how;
  const Incarnation life = std::exchange(child.incarnation, {});
  if (shutting_down) return end_if_empty();
  child.given_up = !child.may_restart || how == kWrongUse;
  if (is_worker(child.what.node)) tell_all({{}, child.what.node, life, how, child.given_up});
  end_turn(child.what.node);
  if (child.given_up) return;
  const bool steady = self.now() - child.started_at >= kSteady;
  child.backoff = steady || child.backoff == Duration{0} ? options.first_backoff
                                                         : std::min(2 * child.backoff, options.last_backoff);
  self.after(child.backoff, [this, node = child.what.node] {
    if (Child* again = find(node)) start(*again);
  });
}

void NodeAgent::State::tell_all(const ChildExited& news) {
  std::map<NodeId, Incarnation> workers;
  if (view != nullptr) {
    for (const Member& member : view->members) workers[member.node] = member.incarnation;
  }
  for (const Child& child : children) {  // they told us themselves, maybe later than the view
    if (is_worker(child.what.node)) workers[child.what.node] = child.incarnation;
  }
  for (const auto& [node, life] : workers) {
    if (life.value == 0 || node == news.node) continue;
    self.tell(RefTo<MembershipProtocol>{{node, life, actor_id(Role::kMembership)}}, news);
  }
  self.tell(RefTo<CoordinatorProtocol>{{kCoordinatorNode, {}, actor_id(Role::kCoordinator)}}, news);
}

// What the Coordinator missed while it was away it learns from here.
void NodeAgent::State::hello() {
  if (shutting_down) return;
  AgentHello message;
  message.host = options.host;
  message.control_address = options.control_address;
  message.view_version = view == nullptr ? 0 : view->version;
  for (const Child& child : children) {
    if (!is_worker(child.what.node)) continue;
    message.children.push_back({child.what.node, child.ended, child.process != 0, child.given_up, child.trouble});
  }
  (void)post.connect(Plane::kControl, kCoordinatorNode, {}, options.coordinator_address);
  self.ask(RefTo<CoordinatorProtocol>{{kCoordinatorNode, {}, actor_id(Role::kCoordinator)}}, std::move(message), kHelloEvery)
      .then([](Outcome<AgentWelcome>) {});  // said again in a second, whatever the answer
  self.after(kHelloEvery, [this] { hello(); });
}

void NodeAgent::on(WorkerJoined message, const Context& context) {
  State::Child* child = state_->find(message.node);
  if (child == nullptr || child->process == 0 || context.source.node != message.node) return;
  if (message.incarnation <= child->ended) return;  // said by a process that has ended
  child->incarnation = message.incarnation;
  (void)state_->post.connect(Plane::kControl, message.node, message.incarnation, message.control_address);
}

void NodeAgent::on(NodeLost message, ReplyTo<NodeReplaced> reply) {
  State::Child* child = state_->find(message.node);
  if (child == nullptr) return reply.reject({ErrorKind::kInvalid, "that node is not of this host"});
  if (!message.restart) child->may_restart = false;
  // A process that has not joined, or has joined since, is not the lost one.
  if (child->process != 0 && child->incarnation == message.incarnation) env().spawner->kill(child->process);
  reply.send({});
}

void NodeAgent::on(ViewUpdate message) {
  State& s = *state_;
  if (s.view != nullptr && message.view->version <= s.view->version) return;
  s.view = std::move(message.view);
  for (const Member& member : s.view->members) {
    if (member.incarnation.value == 0) continue;
    (void)s.post.connect(Plane::kControl, member.node, member.incarnation, member.control_address);
  }
}

// --- probe turns -----------------------------------------------------------------------------------------------------

void NodeAgent::on(TakeProbeTurn message, ReplyTo<ProbeTurn> reply) {
  State& s = *state_;
  if (s.find(message.node) == nullptr) return reply.reject({ErrorKind::kInvalid, "that node is not of this host"});
  if (s.probing == message.node) return reply.send({});  // the answer to an earlier ask was lost
  const auto waiting = std::ranges::find(s.probers, message.node, &State::Prober::node);
  if (waiting != s.probers.end()) {  // asked again: the place is kept
    waiting->reply = std::move(reply);
    return;
  }
  if (s.probers.size() >= kMaxProbersWaiting) return reply.reject({ErrorKind::kExhausted, "too many wait to probe"});
  s.probers.push_back({message.node, std::move(reply)});
  s.next_prober();
}

void NodeAgent::on(ReleaseProbeTurn message) {
  if (state_->probing == message.node) state_->end_turn(message.node);
}

void NodeAgent::State::next_prober() {
  if (probing.value != 0 || probers.empty()) return;
  Prober next = std::move(probers.front());
  probers.pop_front();
  probing = next.node;
  probe_limit = self.after(kProbeTurnLimit, [this, node = next.node] {
    probe_limit = 0;
    end_turn(node);
  });
  next.reply.send({});
}

void NodeAgent::State::end_turn(NodeId node) {
  std::erase_if(probers, [&](const Prober& p) { return p.node == node; });
  if (probing != node) return;
  probing = {};
  self.cancel(std::exchange(probe_limit, 0));
  next_prober();
}

// --- the end ---------------------------------------------------------------------------------------------------------

void NodeAgent::on(Shutdown, ReplyTo<ShuttingDown> reply) {
  State& s = *state_;
  s.shutting_down = true;
  s.probers.clear();
  for (const auto& child : s.children) {
    if (child.process != 0) env().spawner->kill(child.process);
  }
  reply.send({});
  s.end_if_empty();
}

void NodeAgent::State::end_if_empty() {
  const bool any = std::any_of(children.begin(), children.end(), [](const Child& c) { return c.process != 0; });
  if (any) return;
  self.after(kLastWords, [this] { self.env().terminator.terminate("the cluster was taken down"); });
}

}  // namespace consort::cluster
