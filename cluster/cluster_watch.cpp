#include "cluster/cluster_watch.hpp"

#include <algorithm>
#include <utility>

#include "cluster/node_config.hpp"
#include "cluster/roles.hpp"
#include "runtime/event_loop.hpp"

namespace consort::cluster {

using runtime::Duration;
using runtime::NodeId;
using runtime::Outcome;
using runtime::RefTo;
using runtime::Status;

namespace {

constexpr Duration kLookDeadline = std::chrono::milliseconds(500);  // a node answers in milliseconds or is not there
constexpr Duration kDrainDeadline = std::chrono::seconds(10);       // a plan for the others, and a synced log

const RefTo<CoordinatorProtocol> kCoordinator{{kCoordinatorNode, {}, actor_id(Role::kCoordinator)}};

RefTo<MembershipProtocol> membership_of(std::size_t worker) {
  return {{ClusterConfig::node_id(worker), {}, actor_id(Role::kMembership)}};
}

}  // namespace

// --- WatchPort -------------------------------------------------------------------------------------------------------

bool WatchPort::look(Looked then) { return put({std::move(then), {}, nullptr}); }
bool WatchPort::drain(std::string node, Drained then) { return put({nullptr, std::move(node), std::move(then)}); }

bool WatchPort::put(Wish wish) {
  std::function<void()> wake;
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() >= kMaxWaiting) return false;
    waiting_.push_back(std::move(wish));
    wake = wake_;
  }
  if (wake) wake();
  return true;
}

void WatchPort::attach(std::function<void()> wake) {
  {
    const std::lock_guard lock(mutex_);
    wake_ = wake;
  }
  wake();
}

std::vector<WatchPort::Wish> WatchPort::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(waiting_, {});
}

// --- ClusterWatch ----------------------------------------------------------------------------------------------------

struct ClusterWatch::Round {
  std::shared_ptr<ClusterPicture> picture = std::make_shared<ClusterPicture>();
  std::size_t open = 0;  // asks without an answer
};

ClusterWatch::ClusterWatch(std::vector<std::string> worker_names, std::shared_ptr<WatchPort> port)
    : worker_names_(std::move(worker_names)), port_(std::move(port)) {}
ClusterWatch::~ClusterWatch() = default;

void ClusterWatch::on_start() {
  port_->attach(
      [this, poster = loop().poster(), actor = self().actor] { poster.post(actor, [this] { take_wishes(); }); });
}

void ClusterWatch::take_wishes() {
  for (auto& wish : port_->take()) {
    if (wish.drained) {
      drain(wish.node, std::move(wish.drained));
    } else if (picture_ != nullptr && now() - picture_->at < kFresh) {
      wish.looked(picture_);
    } else {
      waiting_.push_back(std::move(wish.looked));
    }
  }
  if (!waiting_.empty() && round_ == nullptr) start_round();
}

void ClusterWatch::start_round() {
  round_ = std::make_unique<Round>();
  round_->open = worker_names_.size() + 1;
  ask(kCoordinator, ClusterStatus{}, kLookDeadline).then([this](Outcome<ClusterStatusReport> report) {
    if (!report.ok()) return ask_worker_for_status(0);
    round_->picture->report = std::move(report).value();
    --round_->open;
    finish_if_whole();
  });
  for (std::size_t worker = 0; worker < worker_names_.size(); ++worker) {
    ask(membership_of(worker), ReadFigures{}, kLookDeadline).then([this](Outcome<NodeFiguresRead> read) {
      if (read.ok()) {
        const NodeId node = read->figures.node;
        round_->picture->nodes[node] = std::move(read).value().figures;
      }
      --round_->open;
      finish_if_whole();
    });
  }
}

// Without the Coordinator workers know as much, one like the other.
void ClusterWatch::ask_worker_for_status(std::size_t index) {
  if (index == worker_names_.size()) {
    --round_->open;
    return finish_if_whole();
  }
  ask(membership_of(index), ClusterStatus{}, kLookDeadline).then([this, index](Outcome<ClusterStatusReport> report) {
    if (!report.ok()) return ask_worker_for_status(index + 1);
    round_->picture->report = std::move(report).value();
    round_->picture->report.coordinator_reachable = false;
    --round_->open;
    finish_if_whole();
  });
}

void ClusterWatch::finish_if_whole() {
  if (round_->open > 0) return;
  const auto round = std::exchange(round_, nullptr);
  picture_.reset();
  if (round->picture->report.view != nullptr) {
    round->picture->at = now();
    picture_ = round->picture;
  }
  for (const auto& looked : std::exchange(waiting_, {})) looked(picture_);
}

void ClusterWatch::drain(const std::string& name, WatchPort::Drained then) {
  const auto found = std::ranges::find(worker_names_, name);
  if (found == worker_names_.end()) {
    return then(runtime::failure(runtime::ErrorKind::kInvalid, "there is no node '" + name + "' in this cluster"));
  }
  const NodeId node = ClusterConfig::node_id(static_cast<std::size_t>(found - worker_names_.begin()));
  picture_.reset();  // the next look shows what came of it
  ask(kCoordinator, LeaveCluster{{}, node}, kDrainDeadline)
      .then([then = std::move(then)](Outcome<LeftCluster> outcome) {
        then(outcome.ok() ? runtime::done() : Status(outcome.error()));
      });
}

}  // namespace consort::cluster
