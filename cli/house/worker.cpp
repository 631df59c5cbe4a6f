#include "cli/house/worker.hpp"

#include <unistd.h>

#include <algorithm>

#include "cli/house/figures.hpp"
#include "cli/house/plan_model.hpp"
#include "cluster/node_events.hpp"
#include "cluster/roles.hpp"
#include "model/grammar/constraint_compiler.hpp"

namespace consort::cli {

using cluster::Role;
using runtime::ErrorKind;
using runtime::Outcome;

namespace {

// Rows, outputs and control messages under way at once; one prefill chunk of the widest model takes some 60 MB.
constexpr std::size_t kBufferBytes = std::size_t{512} << 20;
// KV for this many requests of this many positions is asked for, if it takes no more than a quarter of the memory that
// the trunk leaves: the rest is for parts.
constexpr std::int64_t kWantedRequests = 8;
constexpr std::int64_t kWantedPositions = 8192;
constexpr std::uint64_t kKvShare = 4;

std::uint64_t machine_memory_share(std::size_t node_count) {
  const auto pages = static_cast<std::uint64_t>(std::max(0L, ::sysconf(_SC_PHYS_PAGES)));
  const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return pages * page_bytes / 10 * 8 / std::max<std::size_t>(node_count, 1);  // leaves a fifth to the system
}

runtime::Status add_trunk(WorkerMemory& memory, const std::string& node, const model::Progress& progress) {
  const model::ModelConfig& config = memory.checkpoint->config();
  const model::LayerRange range{0, config.num_hidden_layers};
  const std::uint64_t weights = model::Trunk::bytes_needed(*memory.checkpoint, range);
  const std::uint64_t page_bytes = model::KvPages::page_bytes(config, config.num_hidden_layers);
  if (weights + page_bytes > memory.limit_bytes) {
    return runtime::failure(ErrorKind::kInvalid, "node " + node + ": the trunk takes " + std::to_string(weights) +
                                                     " bytes and one KV page " + std::to_string(page_bytes) +
                                                     ", its memory is " + std::to_string(memory.limit_bytes) +
                                                     ": raise `memory` or take the trunk role away");
  }
  const std::int64_t context = std::min(
      kWantedPositions, config.max_position_embeddings > 0 ? config.max_position_embeddings : kWantedPositions);
  const auto wanted = static_cast<std::uint64_t>(kWantedRequests * model::pages_for(context));
  const std::uint64_t affordable = (memory.limit_bytes - weights) / kKvShare / page_bytes;
  const std::uint64_t count = std::clamp<std::uint64_t>(affordable, 1, wanted);
  if (memory.trunk == nullptr) {
    CONSORT_TRY(memory.trunk, model::Trunk::load(*memory.checkpoint, range, progress));
  }
  memory.pages = std::make_shared<model::KvPages>(config, config.num_hidden_layers, static_cast<std::int64_t>(count));
  memory.trunk_bytes = weights + count * page_bytes;
  return runtime::done();
}

actors::BatcherSettings batcher_settings(const cluster::BatcherConfig& config, std::uint64_t model) {
  actors::BatcherSettings settings;
  settings.max_running = config.max_running.value_or(settings.max_running);
  settings.max_queued = config.max_queued.value_or(settings.max_queued);
  settings.max_queued_tokens = config.max_queued_tokens.value_or(settings.max_queued_tokens);
  settings.chunk_tokens = config.chunk_tokens.value_or(settings.chunk_tokens);
  settings.prefix_cache = config.prefix_cache.value_or(settings.prefix_cache);
  settings.model = model;
  return settings;
}

// Keeps the latest view for actors that are restarted and for whoever looks at the worker from outside.
class ViewKeeper final : public runtime::ActorOf<ViewKeeper, cluster::ViewSubscriber> {
 public:
  ViewKeeper(std::shared_ptr<cluster::ClusterViewPtr> view, std::shared_ptr<std::set<runtime::NodeId>> suspected)
      : view_(std::move(view)), suspected_(std::move(suspected)) {}
  void on(cluster::ViewChanged message) { *view_ = std::move(message.view); }
  void on(cluster::PeerSuspected message) {
    if (message.suspected) {
      suspected_->insert(message.node);
    } else {
      suspected_->erase(message.node);
    }
  }
  void on(cluster::PeerLost message) { suspected_->erase(message.node); }

 private:
  const std::shared_ptr<cluster::ClusterViewPtr> view_;
  const std::shared_ptr<std::set<runtime::NodeId>> suspected_;
};
constexpr std::uint16_t kViewKeeperType = 110;  // addressed by nobody outside its node

template <class A, class... Args>
runtime::ActorRef spawn(runtime::EventLoop& loop, Role role, Args... args) {
  return loop.spawn_root(static_cast<std::uint16_t>(role), 0,
                         [args...]() -> std::unique_ptr<runtime::Actor> { return std::make_unique<A>(args...); });
}

double bytes_per_column(const model::Checkpoint& checkpoint) {
  const model::ModelConfig& config = checkpoint.config();
  if (config.first_k_dense_replace >= config.num_hidden_layers) return 1;
  const model::PartKey whole{runtime::LayerIndex{static_cast<std::uint32_t>(config.first_k_dense_replace)},
                             model::PartKind::kRoutedExpert, 0, 0,
                             static_cast<std::uint32_t>(config.moe_intermediate_size)};
  return static_cast<double>(model::part_bytes(checkpoint, whole)) / static_cast<double>(config.moe_intermediate_size);
}

}  // namespace

Outcome<std::shared_ptr<WorkerMemory>> load_worker_memory(const cluster::ClusterConfig& config, std::size_t node_index,
                                                          const model::Progress& progress) {
  CONSORT_TRY(auto checkpoint, model::Checkpoint::open(config.model));
  return make_worker_memory(config, node_index, std::move(checkpoint), nullptr, progress);
}

Outcome<std::shared_ptr<WorkerMemory>> make_worker_memory(const cluster::ClusterConfig& config, std::size_t node_index,
                                                          std::shared_ptr<const model::Checkpoint> checkpoint,
                                                          std::shared_ptr<const model::Trunk> trunk,
                                                          const model::Progress& progress) {
  const cluster::NodeConfig& node = config.nodes.at(node_index);
  auto memory = std::make_shared<WorkerMemory>(kBufferBytes);
  memory->checkpoint = std::move(checkpoint);
  memory->trunk = std::move(trunk);
  memory->limit_bytes = node.memory_bytes.value_or(machine_memory_share(config.nodes.size()));
  if (node.roles.trunk) CONSORT_RETURN_IF_ERROR(add_trunk(*memory, node.name, progress));
  return memory;
}

Worker::Worker(runtime::EventLoop& loop, WorkerOptions options, std::shared_ptr<WorkerMemory> memory)
    : memory_(std::move(memory)), post_office_(loop) {
  const cluster::NodeConfig& node = options.config.nodes.at(options.node_index);
  cluster::MembershipOptions membership;
  membership.node = cluster::ClusterConfig::node_id(options.node_index);
  const auto subscribe = [&](runtime::ActorRef actor) { membership.subscribers.push_back({actor}); };
  subscribe(loop.spawn_root(kViewKeeperType, 0, [view = view_, suspected = suspected_] {
    return std::make_unique<ViewKeeper>(view, suspected);
  }));

  if (node.roles.experts) {
    actors::ExpertGroupParts parts{
        memory_->checkpoint, memory_->parts, &memory_->buffers, {}, options.is_timed_by_model};
    parts.counters = expert_counters_;
    const auto group = loop.spawn_root(static_cast<std::uint16_t>(Role::kExpertGroup), 0, [parts, view = view_] {
      return std::make_unique<actors::ExpertGroup>(parts, *view);
    });
    subscribe(group);
    membership.parts = runtime::RefTo<cluster::PartHolder>{group};
  }
  if (node.roles.trunk) {
    const actors::RouterSettings settings{bytes_per_column(*memory_->checkpoint), options.pass_observer};
    subscribe(loop.spawn_root(static_cast<std::uint16_t>(Role::kRouter), 0,
                              [settings, kept = memory_, view = view_, counters = router_counters_] {
                                return std::make_unique<actors::Router>(settings, kept->buffers, *view, counters);
                              }));
    const model::LayerRange all_layers{0, memory_->checkpoint->config().num_hidden_layers};
    const actors::DecoderParts parts{
        memory_->trunk,        memory_->pages,
        &memory_->buffers,     model::Trunk::bytes_needed(*memory_->checkpoint, all_layers),
        options.pass_observer, decoder_counters_};
    actors::DecoderSettings decoder;
    decoder.micro_batches = options.micro_batches;
    decoder.min_rows_to_split = options.min_rows_to_split;
    spawn<actors::Decoder>(loop, Role::kDecoder, parts, decoder);
  }
  if (node.roles.batcher) {
    const actors::BatcherSettings settings =
        batcher_settings(options.config.batcher, memory_->checkpoint->manifest_hash());
    subscribe(loop.spawn_root(static_cast<std::uint16_t>(Role::kBatcher), 0,
                              [settings, view = view_, counters = batcher_counters_,
                               compiler = model::make_constraint_compiler(options.config.model)] {
                                return std::make_unique<actors::Batcher>(settings, *view, counters, compiler);
                              }));
  }

  membership.name = node.name;
  membership.manifest = manifest_of(*memory_->checkpoint);
  membership.build = build_name();
  membership.memory_bytes = memory_->limit_bytes;
  membership.trunk_bytes = memory_->trunk_bytes;
  membership.worker_count = static_cast<std::uint32_t>(options.config.nodes.size());
  membership.coordinator_address = std::move(options.coordinator_address);
  membership.agent = options.agent;
  membership.agent_address = std::move(options.agent_address);
  membership.heartbeat_every = options.config.heartbeat_every;
  membership.suspect_after = options.config.suspect_after;
  membership.checkpoint_bytes_read = [checkpoint = memory_->checkpoint] { return checkpoint->data_bytes_read(); };
  membership.figures = [roles = node.roles, experts = expert_counters_, decoder = decoder_counters_,
                        router = router_counters_, batcher = batcher_counters_, pages = memory_->pages] {
    cluster::NodeFigures figures;
    if (roles.experts) add_figures(figures, *experts);
    if (roles.trunk) add_figures(figures, *decoder, *router, static_cast<std::uint64_t>(pages->page_count()));
    if (roles.batcher) add_figures(figures, *batcher);
    return figures;
  };
  membership.on_joined = std::move(options.on_joined);
  loop.spawn_root(static_cast<std::uint16_t>(Role::kMembership), 0,
                  [this, membership] { return std::make_unique<cluster::Membership>(post_office_, membership); });
}

std::string build_name() { return "consort 0.1.0"; }

}  // namespace consort::cli
