#include "cli/house/client.hpp"

#include <algorithm>

#include "cli/house/control_plane.hpp"
#include "cluster/post_office.hpp"
#include "cluster/roles.hpp"
#include "runtime/posix/posix_clock.hpp"
#include "runtime/trace.hpp"

namespace consort::cli {

using cluster::Role;
using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;

namespace {

constexpr std::uint32_t kClientNodeBits = 0x00FFFFFF;
// A process answers in milliseconds or is not there.
constexpr runtime::Duration kStatusPatience = std::chrono::seconds(1);
constexpr runtime::Duration kLookAgain = std::chrono::milliseconds(100);
constexpr std::uint32_t kAskerIndex = 0;

}  // namespace

struct Client::Parts {
  explicit Parts(std::uint64_t seed)
      : rng(seed),
        node(cluster::kFirstClientNode | static_cast<std::uint32_t>(rng.below(kClientNodeBits))),
        loop(node),
        env{clock, rng, loop, terminator, trace} {}

  runtime::posix::PosixClock clock;
  runtime::Rng rng;
  runtime::NodeId node;
  runtime::Trace trace;
  runtime::posix::ExitTerminator terminator;
  ControlLink control;
  runtime::EventLoop loop;
  runtime::Env env;
  std::unique_ptr<cluster::PostOffice> post_office;
  ProcessList processes;
  Asker* asker = nullptr;
  std::uint32_t next_stream = 1;
};

Client::Client(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Client::~Client() {
  if (parts_ && parts_->control.source != nullptr) parts_->loop.remove_source(*parts_->control.source);
}

Outcome<std::unique_ptr<Client>> Client::open(const ClusterState& state) {
  auto parts = std::make_unique<Parts>(runtime::posix::kernel_seed());
  CONSORT_TRY(parts->control, open_client_link(state, kOperatorProcess, parts->node));
  parts->processes = state.processes;
  parts->env.control = parts->control.link.get();
  parts->loop.set_env(parts->env);
  parts->loop.add_source(*parts->control.source);
  parts->post_office = std::make_unique<cluster::PostOffice>(parts->loop);
  for (const auto& process : state.processes.all()) {
    CONSORT_TRY(const runtime::LinkAddress address, control_address(state, process.name));
    CONSORT_RETURN_IF_ERROR(parts->post_office->connect(cluster::Plane::kControl, process.node, {}, address));
  }
  Parts* raw = parts.get();
  parts->loop.spawn_root(static_cast<std::uint16_t>(Role::kClient), kAskerIndex, [raw] {
    auto asker = std::make_unique<Asker>();
    raw->asker = asker.get();
    return asker;
  });
  return std::unique_ptr<Client>(new Client(std::move(parts)));
}

Client::Asker& Client::asker() { return *parts_->asker; }

runtime::Instant Client::now() const { return parts_->clock.now(); }

bool Client::hears(runtime::NodeId process) const { return parts_->control.link->connected(process); }

bool Client::turn_until(const std::function<bool()>& done, runtime::Duration deadline) {
  return parts_->loop.run_until(done, parts_->clock.now() + deadline);
}

Outcome<cluster::ClusterStatusReport> Client::status(runtime::Duration deadline) {
  const runtime::RefTo<cluster::CoordinatorProtocol> coordinator{
      {parts_->processes.coordinator.node, {}, cluster::actor_id(Role::kCoordinator)}};
  auto report = ask(coordinator, cluster::ClusterStatus{}, std::min(deadline, kStatusPatience));
  if (report.ok()) return report;
  for (const auto& worker : parts_->processes.workers) {
    auto answer = status_of_worker(worker.node, deadline);
    if (!answer.ok()) continue;
    answer->coordinator_reachable = false;
    return answer;
  }
  return failure(report.error().kind, "neither the coordinator nor a worker answers: is the cluster up?");
}

Outcome<runtime::RefTo<actors::BatcherProtocol>> Client::batcher(const cluster::ClusterView& view) const {
  const auto member = std::ranges::find_if(view.members, [](const cluster::Member& m) { return m.roles.batcher; });
  if (member == view.members.end() || member->incarnation.value == 0) {
    return failure(ErrorKind::kPeerDown,
                   "the node with the batcher is not there: requests can be made when it is back");
  }
  return runtime::RefTo<actors::BatcherProtocol>{
      {member->node, member->incarnation, cluster::actor_id(Role::kBatcher)}};
}

Outcome<cluster::ClusterStatusReport> Client::status_of_worker(runtime::NodeId worker, runtime::Duration deadline) {
  const runtime::RefTo<cluster::MembershipProtocol> membership{{worker, {}, cluster::actor_id(Role::kMembership)}};
  return ask(membership, cluster::ClusterStatus{}, std::min(deadline, kStatusPatience));
}

Outcome<runtime::RefTo<actors::BatcherProtocol>> Client::find_batcher(runtime::Duration deadline) {
  const runtime::Instant end = now() + deadline;
  while (true) {
    const auto report = status(deadline);
    if (!report.ok()) return report.error();
    auto found = batcher(*report->view);
    for (const auto& worker : parts_->processes.workers) {
      if (found.ok() || now() >= end) break;
      const auto seen = status_of_worker(worker.node, end - now());
      if (!seen.ok()) continue;
      if (auto there = batcher(*seen->view); there.ok()) found = std::move(there);
    }
    if (found.ok() || now() >= end) return found;
    turn_until([] { return false; }, kLookAgain);
  }
}

runtime::ActorRef Client::start_stream(runtime::RefTo<actors::BatcherProtocol> batcher,
                                       actors::GenerationRequest request, actors::StreamEvents events) {
  const std::uint32_t stream = parts_->next_stream++;
  return parts_->loop.spawn_root(static_cast<std::uint16_t>(Role::kClient), stream,
                                 [batcher, stream, request = std::move(request), events = std::move(events)] {
                                   return std::make_unique<actors::TokenStream>(batcher, stream, request, events);
                                 });
}

void Client::stop(runtime::ActorRef actor) { parts_->loop.stop_actor(actor.actor); }

}  // namespace consort::cli
