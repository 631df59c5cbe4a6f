#include "cli/simulate/sim_cluster.hpp"

#include <algorithm>

#include "actors/serving/generation_messages.hpp"
#include "cli/house/controllers.hpp"
#include "cluster/post_office.hpp"
#include "cluster/roles.hpp"

namespace consort::cli {

using cluster::Role;
using runtime::SimBoot;
using runtime::SimNetwork;
using runtime::SimProcess;

namespace {

constexpr runtime::NodeId kSimClient{cluster::kFirstClientNode + 1};
constexpr std::string_view kClientName = "client";
constexpr auto kWarmUpDeadline = std::chrono::seconds(30);
const char* const kDecisions = "decisions.log";

}  // namespace

// The client's process: asks for warm-ups, keeps streams.
struct SimCluster::ClientHouse {
  class Asker final : public runtime::ActorOf<Asker, runtime::Protocol<>> {
   public:
    template <class P, class M, class F>
    void start(const runtime::RefTo<P>& to, M message, runtime::Duration deadline, F handler) {
      ask(to, std::move(message), deadline).then(std::move(handler));
    }
  };

  explicit ClientHouse(runtime::EventLoop& event_loop) : loop(event_loop), post_office(event_loop) {
    loop.spawn_root(static_cast<std::uint16_t>(Role::kClient), 0, [this] {
      auto made = std::make_unique<Asker>();
      asker = made.get();
      return made;
    });
  }

  runtime::EventLoop& loop;
  cluster::PostOffice post_office;
  Asker* asker = nullptr;
  std::uint32_t next_stream = 1;
};

runtime::Outcome<SimModel> SimModel::load(const std::string& directory) {
  SimModel model;
  CONSORT_TRY(model.checkpoint, model::Checkpoint::open(directory));
  const model::LayerRange all{0, model.checkpoint->config().num_hidden_layers};
  CONSORT_TRY(model.trunk, model::Trunk::load(*model.checkpoint, all));
  return model;
}

SimCluster::SimCluster(SimClusterOptions options, SimModel model)
    : options_(std::move(options)), model_(std::move(model)), processes_(ProcessList::of(options_.config).value()) {
  processes_.gateway.reset();  // HTTP and its clients are not simulated
  world_ = std::make_unique<runtime::World>(options_.seed, options_.world);
  world_->set_program([this](const runtime::ProcessSpec& spec) -> runtime::Outcome<runtime::SimProgram> {
    if (spec.name == processes_.coordinator.name) {
      return runtime::SimProgram{processes_.coordinator.node, coordinator_boot()};
    }
    const auto place = std::ranges::find(processes_.workers, spec.name, &ProcessPlace::name);
    if (place == processes_.workers.end()) {
      return runtime::failure(runtime::ErrorKind::kInvalid, "no process is named " + spec.name);
    }
    return runtime::SimProgram{place->node, worker_boot(*place)};
  });
  for (const auto& agent : processes_.agents) world_->add_node(agent.name, agent.node, agent_boot(agent), agent.host);
  add_client();
  shape_links();
}

SimCluster::~SimCluster() = default;

SimBoot SimCluster::worker_boot(const ProcessPlace& place) {
  return [this, place](SimProcess& process) -> std::shared_ptr<void> {
    const std::size_t index = place.node.value - 1;
    const cluster::NodeConfig& node = options_.config.nodes[index];
    auto model = process.device().model();
    model.bytes_per_second /= node.slowdown;
    process.device().set_model(model);
    // The count of bytes read travels in messages: each life has its own.
    const auto memory =
        make_worker_memory(options_.config, index, model_.checkpoint->with_own_count(), model_.trunk).value();
    process.keep(memory);
    WorkerOptions options;
    options.config = options_.config;
    options.node_index = index;
    const ProcessPlace& agent = processes_.agent_of(node.host);
    options.agent = agent.node;
    options.agent_address = SimNetwork::usual_address(agent.node);
    options.coordinator_address = SimNetwork::usual_address(processes_.coordinator.node);
    options.micro_batches = options_.micro_batches;
    options.min_rows_to_split = options_.min_rows_to_split;
    options.pass_observer = options_.pass_observer;
    options.is_timed_by_model = true;
    options.on_joined = [&process](runtime::Incarnation incarnation) {
      process.data().set_incarnation(incarnation);
      process.control().set_incarnation(incarnation);
    };
    auto worker = std::make_shared<Worker>(process.loop(), std::move(options), memory);
    workers_[place.name] = worker;
    process.add_rest_check("buffer bytes", [memory] { return memory->buffers.outstanding_bytes(); });
    if (node.roles.batcher) {
      const auto* counters = &worker->batcher_counters();
      process.add_rest_check("KV pages", [counters] { return std::size_t{counters->pages_used}; });
    }
    return worker;
  };
}

SimBoot SimCluster::coordinator_boot() {
  return [this](SimProcess& process) -> std::shared_ptr<void> {
    return std::make_shared<CoordinatorProcess>(
        process.loop(), coordinator_options(options_.config, model_.checkpoint, kDecisions, options_.numeric_plan));
  };
}

SimBoot SimCluster::agent_boot(const ProcessPlace& place) {
  return [this, place](SimProcess& process) -> std::shared_ptr<void> {
    cluster::NodeAgentOptions options;
    options.host = place.host;
    options.restart = options_.restart;
    options.coordinator_address = SimNetwork::usual_address(processes_.coordinator.node);
    options.control_address = SimNetwork::usual_address(place.node);
    options.children = children_of(processes_, place, [](const ProcessPlace&) { return std::vector<std::string>(); });
    return std::make_shared<AgentProcess>(process.loop(), std::move(options));
  };
}

void SimCluster::add_client() {
  const auto boot = [this](SimProcess& process) -> std::shared_ptr<void> {
    auto house = std::make_shared<ClientHouse>(process.loop());
    for (const auto& worker : processes_.workers) {
      (void)house->post_office.connect(cluster::Plane::kControl, worker.node, {},
                                       SimNetwork::usual_address(worker.node));
    }
    client_ = house;
    return house;
  };
  world_->add_node(std::string(kClientName), kSimClient, boot, "client-host");
}

void SimCluster::shape_links() {
  for (const auto& place : processes_.workers) {
    const cluster::LinkShape& shape = options_.config.nodes[place.node.value - 1].shape;
    for (const auto& other : processes_.workers) {
      if (other.node == place.node) continue;
      for (const auto& [from, to] : {std::pair(place.node, other.node), std::pair(other.node, place.node)}) {
        if (shape.delay.count() > 0) world_->network().delay(from, to, shape.delay, runtime::Wire::kData);
        if (shape.bytes_per_second > 0) {
          const double factor = options_.world.data.bytes_per_second / static_cast<double>(shape.bytes_per_second);
          world_->network().slow(from, to, std::max(1.0, factor), runtime::Wire::kData);
        }
      }
    }
  }
}

Worker* SimCluster::worker(std::string_view name) {
  const auto found = workers_.find(name);
  return found == workers_.end() ? nullptr : found->second.lock().get();
}

cluster::ClusterViewPtr SimCluster::view_of(std::string_view name) {
  const Worker* living = worker(name);
  return living == nullptr ? nullptr : living->view();
}

bool SimCluster::all_ready() {
  const auto view = view_of(processes_.workers[options_.config.batcher_index()].name);
  if (view == nullptr || view->members.size() != processes_.workers.size()) return false;
  return std::ranges::all_of(view->members,
                             [](const cluster::Member& m) { return m.state == cluster::NodeState::kReady; });
}

runtime::Outcome<cluster::DecidedState> SimCluster::decided_on_disk() {
  const auto& files = world_->storage(processes_.coordinator.host).files;
  cluster::DecidedState decided;
  const auto file = files.find(kDecisions);
  if (file == files.end()) return decided;
  CONSORT_TRY(const cluster::LogScan scan, cluster::scan_log(file->second));
  for (const cluster::Decision& decision : scan.decisions) decided.apply(decision);
  return decided;
}

bool SimCluster::is_restored() { return unrest().empty(); }

std::string SimCluster::unrest() {
  for (const auto& place : processes_.all()) {
    const SimProcess* process = world_->find(place.name);
    if (process == nullptr) return place.name + " does not live";
    if (process->paused()) return place.name + " is stopped";
  }
  const auto term = world_->find(processes_.coordinator.name)->loop().incarnation();
  for (const auto& place : processes_.workers) {
    const auto view = view_of(place.name);
    if (view == nullptr || view->version >> 32 != term.value)
      return place.name + " has no view of the Coordinator's term";
    for (const auto& member : view->members) {
      SimProcess* process = world_->find(member.node);
      if (process == nullptr || process->loop().incarnation() != member.incarnation) {
        return place.name + " does not know the life of " + member.name;
      }
      if (member.state != cluster::NodeState::kReady)
        return member.name + " is " + std::string(cluster::name(member.state));
    }
    const cluster::PostOffice& post = worker(place.name)->post_office();
    for (const auto c :
         {runtime::MessageClass::kDecode, runtime::MessageClass::kBulk, runtime::MessageClass::kBackground}) {
      if (const auto slots = post.slots_out(c); slots != 0) {
        return place.name + ": " + std::to_string(slots) + " slots of class " + std::to_string(static_cast<int>(c)) +
               " are out";
      }
    }
  }
  const auto rests = world_->not_at_rest();
  return rests.empty() ? "" : rests.front();
}

runtime::Status SimCluster::bring_up(runtime::World::Limits limits) {
  CONSORT_RETURN_IF_ERROR(world_->run_until([&] { return all_ready(); }, "every node to be ready", limits));
  const ProcessPlace& place = processes_.workers[options_.config.batcher_index()];
  const runtime::RefTo<actors::BatcherProtocol> batcher{
      {place.node, world_->find(place.node)->loop().incarnation(), cluster::actor_id(Role::kBatcher)}};
  std::optional<runtime::Outcome<actors::WarmUpDone>> warm;
  client_.lock()->asker->start(batcher, actors::WarmUp{}, kWarmUpDeadline,
                               [&](runtime::Outcome<actors::WarmUpDone> outcome) { warm.emplace(std::move(outcome)); });
  CONSORT_RETURN_IF_ERROR(world_->run_until([&] { return warm.has_value(); }, "the warm-up", limits));
  if (!warm->ok()) return std::move(*warm).error();
  is_warm_ = true;
  return runtime::done();
}

std::size_t SimCluster::start(actors::GenerationRequest request) {
  const ProcessPlace& place = processes_.workers[options_.config.batcher_index()];
  SimProcess* process = world_->find(place.node);
  CONSORT_CHECK(process != nullptr, "the batcher's node does not live");
  const runtime::RefTo<actors::BatcherProtocol> batcher{
      {place.node, process->loop().incarnation(), cluster::actor_id(Role::kBatcher)}};
  auto generation = std::make_shared<SimGeneration>();
  generation->batcher_process = process->index();
  generations_.push_back(generation);
  actors::StreamEvents events;
  events.token = [generation](const actors::GeneratedToken& token) { generation->tokens.push_back(token); };
  events.ended = [generation](const actors::GenerationEnded& end) {
    ++generation->end_count;
    generation->end = end;
  };
  const auto house = client_.lock();
  const std::uint32_t stream = house->next_stream++;
  house->loop.spawn_root(static_cast<std::uint16_t>(Role::kClient), stream,
                         [batcher, stream, request = std::move(request), events = std::move(events)] {
                           return std::make_unique<actors::TokenStream>(batcher, stream, request, events);
                         });
  return generations_.size() - 1;
}

bool SimCluster::all_ended() const {
  return std::ranges::all_of(generations_, [](const auto& generation) { return generation->end.has_value(); });
}

runtime::Status SimCluster::run_to_end(runtime::World::Limits limits) {
  return world_->run_until([&] { return all_ended(); }, "every request to end", limits);
}

}  // namespace consort::cli
