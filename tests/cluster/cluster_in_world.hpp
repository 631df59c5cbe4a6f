// A cluster in a simulated world: agents, Coordinator and workers with stand-ins for the actors beside Membership.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cluster/coordinator.hpp"
#include "cluster/decision_log.hpp"
#include "cluster/membership.hpp"
#include "cluster/node_agent.hpp"
#include "cluster/post_office.hpp"
#include "cluster/roles.hpp"
#include "runtime/simulated/world.hpp"

namespace consort::tests {

using namespace std::chrono_literals;

// What a worker's subscribers heard, over all its lives.
struct Heard {
  std::vector<cluster::ClusterViewPtr> views;
  std::vector<cluster::PeerSuspected> suspected;
  std::vector<cluster::PeerLost> lost;
  std::vector<runtime::Instant> lost_at;
  std::vector<std::size_t> parts_loaded;  // how many, per load
  runtime::Incarnation incarnation;
};

class Listener final : public runtime::ActorOf<Listener, cluster::ViewSubscriber> {
 public:
  explicit Listener(Heard& heard) : heard_(heard) {}
  void on(cluster::ViewChanged changed) { heard_.views.push_back(changed.view); }
  void on(cluster::PeerSuspected suspected) { heard_.suspected.push_back(suspected); }
  void on(cluster::PeerLost lost) {
    heard_.lost.push_back(lost);
    heard_.lost_at.push_back(now());
  }

 private:
  Heard& heard_;
};

// Loads and probes in no time worth mentioning, and notes how many probe at once on a host.
class Shelf final : public runtime::ActorOf<Shelf, cluster::PartHolder> {
 public:
  Shelf(Heard& heard, double speed, int& probing, int& most_probing)
      : heard_(heard), speed_(speed), probing_(probing), most_probing_(most_probing) {}
  void on(cluster::LoadParts load, runtime::ReplyTo<cluster::PartsLoaded> reply) {
    heard_.parts_loaded.push_back(load.parts.size());
    auto kept = std::make_shared<runtime::ReplyTo<cluster::PartsLoaded>>(std::move(reply));
    after(5ms, [kept, n = load.parts.size()] { kept->send({static_cast<std::uint32_t>(n), 1000 * n, 1000 * n}); });
  }
  void on(cluster::ProbeParts, runtime::ReplyTo<cluster::PartsProbed> reply) {
    most_probing_ = std::max(most_probing_, ++probing_);
    auto kept = std::make_shared<runtime::ReplyTo<cluster::PartsProbed>>(std::move(reply));
    after(20ms, [this, kept] {
      --probing_;
      kept->send({speed_, 0});
    });
  }

 private:
  Heard& heard_;
  const double speed_;
  int& probing_;
  int& most_probing_;
};

class Operator final : public runtime::ActorOf<Operator, runtime::Protocol<>> {
 public:
  explicit Operator(Operator*& self) { self = this; }
  template <class P, class M>
  void send(runtime::ActorRef to, M message, std::optional<runtime::Outcome<typename M::Reply>>& answer) {
    answer.reset();
    after(0ns, [this, to, message = std::move(message),
                &answer]() mutable {  // a turn of its own: the clock is read then
      ask(runtime::RefTo<P>{to}, std::move(message), 5s).then([&answer](runtime::Outcome<typename M::Reply> outcome) {
        answer.emplace(std::move(outcome));
      });
    });
  }
};

struct WorldOptions {
  std::uint32_t workers = 3;
  std::uint32_t replicas = 2;
  std::vector<double> speeds = {3e9, 1e9, 3e9};
  std::uint64_t memory = std::uint64_t{1} << 40;
  bool restart = true;
  bool first_has_trunk = true;  // the second has it always
  int hosts = 1;                // worker i lives on host i % hosts; the Coordinator on host 0
  std::string odd_manifest;     // of the last worker
  runtime::WorldModel model;
};

class ClusterInWorld {
 public:
  explicit ClusterInWorld(std::uint64_t seed, WorldOptions given = {})
      : options(std::move(given)), world(seed, options.model) {
    config.name = "lab";
    config.path = "lab.toml";
    config.replicas = options.replicas;
    for (std::uint32_t i = 0; i < options.workers; ++i) {
      cluster::NodeConfig node;
      node.name = "worker" + std::to_string(i + 1);
      node.host = "host" + std::to_string(i % static_cast<std::uint32_t>(options.hosts));
      node.roles = {i == 0, i == 0, i == 1 || (i == 0 && options.first_has_trunk), true};
      node.memory_bytes = options.memory;
      config.nodes.push_back(node);
    }
    world.set_program([this](const runtime::ProcessSpec& spec) { return program(spec); });
    for (int h = 0; h < options.hosts; ++h) start_agent(h);
    world.add_node("operator", client_node(), [this](runtime::SimProcess& process) {
      process.loop().set_incarnation(runtime::Incarnation{1});
      auto post = std::make_shared<cluster::PostOffice>(process.loop());
      std::vector<runtime::NodeId> everyone = {cluster::kCoordinatorNode};
      for (int h = 0; h < options.hosts; ++h) everyone.push_back(agent_node(h));
      for (std::uint32_t i = 0; i < options.workers; ++i) everyone.push_back(cluster::ClusterConfig::node_id(i));
      for (const auto node : everyone) {
        (void)post->connect(cluster::Plane::kControl, node, {}, runtime::SimNetwork::usual_address(node));
      }
      process.loop().spawn_root(static_cast<std::uint16_t>(cluster::Role::kClient), 0,
                                [this] { return std::make_unique<Operator>(operator_actor); });
      return post;
    });
  }

  static runtime::NodeId client_node() { return runtime::NodeId{cluster::kFirstClientNode + 5}; }
  static runtime::NodeId agent_node(int host) {
    return runtime::NodeId{cluster::kFirstAgentNode + static_cast<std::uint32_t>(host)};
  }

  void start_agent(int host) {
    world.add_node(
        "agent" + std::to_string(host), agent_node(host),
        [this, host](runtime::SimProcess& process) {
          process.loop().set_incarnation(runtime::Incarnation{1});
          auto post = std::make_shared<cluster::PostOffice>(process.loop());
          cluster::NodeAgentOptions agent;
          agent.host = "host" + std::to_string(host);
          if (host == 0) agent.children.push_back({cluster::kCoordinatorNode, {"coordinator", {}}});
          for (std::uint32_t i = 0; i < options.workers; ++i) {
            if (static_cast<int>(i) % options.hosts != host) continue;
            agent.children.push_back({cluster::ClusterConfig::node_id(i), {config.nodes[i].name, {std::to_string(i)}}});
          }
          agent.restart = options.restart;
          agent.coordinator_address = runtime::SimNetwork::usual_address(cluster::kCoordinatorNode);
          agent.control_address = runtime::SimNetwork::usual_address(agent_node(host));
          process.loop().spawn_root(
              static_cast<std::uint16_t>(cluster::Role::kNodeAgent), 0,
              [post = post.get(), agent] { return std::make_unique<cluster::NodeAgent>(*post, agent); });
          return post;
        },
        "host" + std::to_string(host));
  }

  runtime::Outcome<runtime::SimProgram> program(const runtime::ProcessSpec& spec) {
    if (spec.name == "coordinator") {
      return runtime::SimProgram{cluster::kCoordinatorNode,
                                 [this](runtime::SimProcess& process) { return boot_coordinator(process); }};
    }
    const auto index = static_cast<std::uint32_t>(std::stoul(spec.arguments.at(0)));
    return runtime::SimProgram{cluster::ClusterConfig::node_id(index),
                               [this, index](runtime::SimProcess& process) { return boot_worker(process, index); }};
  }

  std::shared_ptr<void> boot_coordinator(runtime::SimProcess& process) {
    auto post = std::make_shared<cluster::PostOffice>(process.loop());
    cluster::CoordinatorOptions coordinator;
    coordinator.config = config;
    coordinator.model = model();
    coordinator.manifest = "manifest";
    coordinator.build = "build";
    coordinator.log_path = "decisions.log";
    process.loop().spawn_root(
        static_cast<std::uint16_t>(cluster::Role::kCoordinator), 0,
        [post = post.get(), coordinator] { return std::make_unique<cluster::Coordinator>(*post, coordinator); });
    return post;
  }

  std::shared_ptr<void> boot_worker(runtime::SimProcess& process, std::uint32_t index) {
    auto post = std::make_shared<cluster::PostOffice>(process.loop());
    Heard& life = heard[index + 1];
    const int host = static_cast<int>(index) % options.hosts;
    const auto listener = process.loop().spawn_root(50, 0, [&life] { return std::make_unique<Listener>(life); });
    probing[host] = 0;
    const auto shelf = process.loop().spawn_root(51, 0, [&life, this, index, host] {
      return std::make_unique<Shelf>(life, options.speeds[index % options.speeds.size()], probing[host],
                                     most_probing[host]);
    });
    cluster::MembershipOptions member;
    member.node = cluster::ClusterConfig::node_id(index);
    member.name = config.nodes[index].name;
    member.manifest = index + 1 == options.workers && !options.odd_manifest.empty() ? options.odd_manifest : "manifest";
    member.build = "build";
    member.memory_bytes = options.memory;
    member.worker_count = options.workers;
    member.agent = agent_node(host);
    member.agent_address = runtime::SimNetwork::usual_address(member.agent);
    member.coordinator_address = runtime::SimNetwork::usual_address(cluster::kCoordinatorNode);
    member.subscribers = {{listener}};
    member.parts = {{shelf}};
    member.on_joined = [&process, &life](runtime::Incarnation incarnation) {
      process.data().set_incarnation(incarnation);
      process.control().set_incarnation(incarnation);
      life.incarnation = incarnation;
    };
    process.loop().spawn_root(static_cast<std::uint16_t>(cluster::Role::kMembership), 0, [post = post.get(), member] {
      return std::make_unique<cluster::Membership>(*post, member);
    });
    return post;
  }

  static cluster::PlanModel model() {
    cluster::PlanModel model;
    model.expert_layers = {1, 2};
    model.n_routed_experts = 16;
    model.num_experts_per_tok = 4;
    model.moe_intermediate_size = 64;
    model.column_unit = 16;
    model.hidden_size = 64;
    model.part_bytes = [](const cluster::PartId& part) { return std::uint64_t{part.column_count} * 1000; };
    return model;
  }

  // The latest view that a worker's listener has.
  const cluster::ClusterView* view_at(std::uint32_t worker) const {
    const auto at = heard.find(worker);
    return at == heard.end() || at->second.views.empty() ? nullptr : at->second.views.back().get();
  }
  // Every living worker sees every worker ready, in the life that it is in.
  bool all_ready() {
    for (std::uint32_t w = 1; w <= options.workers; ++w) {
      const auto* view = view_at(w);
      if (view == nullptr || world.find(runtime::NodeId{w}) == nullptr) return false;
      for (const auto& member : view->members) {
        if (member.state != cluster::NodeState::kReady) return false;
        if (member.incarnation != heard[member.node.value].incarnation) return false;
        const runtime::SimProcess* process = world.find(member.node);
        if (process == nullptr || world.find(member.node)->loop().incarnation() != member.incarnation) return false;
      }
    }
    return true;
  }
  runtime::Status until_ready(runtime::Duration time = 60s) {
    return world.run_until([this] { return all_ready(); }, "all nodes to be ready", {time, 20'000'000});
  }

  // Each life of a node was given once, to one process, whatever happened to the log.
  std::vector<cluster::Decision> decisions(const std::string& host = "host0") {
    const auto& bytes = world.storage(host).files["decisions.log"];
    auto scan = cluster::scan_log(bytes);
    CONSORT_CHECK(scan.ok(), scan.ok() ? "" : scan.error().text);
    return scan->decisions;
  }
  bool lives_are_unique() {
    std::set<std::pair<std::uint32_t, std::uint32_t>> given;
    for (const auto& decision : decisions()) {
      const auto* life = std::get_if<cluster::NodeIncarnated>(&decision);
      if (life != nullptr && !given.insert({life->node.value, life->incarnation.value}).second) return false;
    }
    return true;
  }

  WorldOptions options;
  cluster::ClusterConfig config;
  std::map<std::uint32_t, Heard> heard;  // by worker, from 1
  std::map<int, int> probing;
  std::map<int, int> most_probing;
  Operator* operator_actor = nullptr;
  runtime::World world;
};

}  // namespace consort::tests
