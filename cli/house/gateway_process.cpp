#include "cli/house/gateway_process.hpp"

#include <filesystem>

#include "actors/serving/gateway.hpp"
#include "cli/house/control_plane.hpp"
#include "cluster/post_office.hpp"
#include "cluster/roles.hpp"
#include "kernels/cpu_device.hpp"
#include "model/checkpoint.hpp"
#include "runtime/posix/posix_clock.hpp"
#include "runtime/trace.hpp"

namespace consort::cli {

using runtime::Outcome;

namespace {

constexpr std::uint32_t kClientNodeBits = 0x00FFFFFF;
constexpr std::uint16_t kWatchType = 111;           // addressed by nobody outside its process
constexpr auto kLookEvery = std::chrono::hours(1);  // run_until wants a deadline; here it means nothing

Outcome<actors::GatewaySettings> settings_of(const cluster::ClusterConfig& config) {
  CONSORT_TRY(const auto checkpoint, model::Checkpoint::open(config.model));
  CONSORT_TRY(model::Tokenizer tokenizer, model::Tokenizer::from_directory(config.model));
  auto format = model::ChatFormat::choose("", tokenizer);
  actors::GatewaySettings settings{std::move(tokenizer), std::move(format), {}};
  settings.batcher_node = cluster::ClusterConfig::node_id(config.batcher_index());
  settings.context_tokens = static_cast<std::uint32_t>(checkpoint->config().max_position_embeddings);
  settings.vocabulary = static_cast<std::int32_t>(checkpoint->config().vocab_size);
  settings.default_max_tokens = config.gateway.default_max_tokens;
  settings.request_deadline = std::chrono::duration_cast<std::chrono::milliseconds>(config.gateway.request_deadline);
  if (settings.context_tokens == 0) {
    return runtime::failure(runtime::ErrorKind::kInvalid,
                            config.model + "/config.json: max_position_embeddings is missing");
  }
  return settings;
}

}  // namespace

struct GatewayProcess::Parts {
  Parts() : node(cluster::kFirstClientNode | static_cast<std::uint32_t>(rng.below(kClientNodeBits))) {}

  runtime::posix::PosixClock clock;
  runtime::Rng rng{runtime::posix::kernel_seed()};
  runtime::NodeId node;
  runtime::Trace trace;
  runtime::posix::ExitTerminator terminator;
  kernels::CpuDevice device{{}, clock, trace};
  ControlLink control;
  std::shared_ptr<actors::RequestPort> port = std::make_shared<actors::RequestPort>();
  runtime::EventLoop loop{node};
  runtime::Env env{clock, rng, loop, terminator, trace};
  runtime::Metrics metrics{clock, loop};
  std::unique_ptr<cluster::PostOffice> post_office;
  std::shared_ptr<cluster::WatchPort> watch = std::make_shared<cluster::WatchPort>();
  std::uint32_t context_tokens = 0;
  bool has_thinking_switch = false;
};

GatewayProcess::GatewayProcess(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

GatewayProcess::~GatewayProcess() {
  if (parts_->control.source != nullptr) parts_->loop.remove_source(*parts_->control.source);
}

Outcome<std::unique_ptr<GatewayProcess>> GatewayProcess::open(const ClusterState& state, std::string_view key_of) {
  CONSORT_TRY(actors::GatewaySettings settings, settings_of(state.config));
  auto parts = std::make_unique<Parts>();
  parts->context_tokens = settings.context_tokens;
  parts->has_thinking_switch = settings.format.ok() && settings.format->name().starts_with("v3.1");
  CONSORT_TRY(parts->control, open_client_link(state, key_of, parts->node));
  parts->env.control = parts->control.link.get();
  parts->env.device = &parts->device;
  parts->loop.set_env(parts->env);
  parts->loop.add_source(*parts->control.source);
  parts->post_office = std::make_unique<cluster::PostOffice>(parts->loop);
  // The Batcher is asked for tokens; the others, and the Coordinator, when somebody looks.
  std::vector<ProcessPlace> others = state.processes.workers;
  others.push_back(state.processes.coordinator);
  for (const ProcessPlace& process : others) {
    CONSORT_TRY(const runtime::LinkAddress address, control_address(state, process.name));
    CONSORT_RETURN_IF_ERROR(parts->post_office->connect(cluster::Plane::kControl, process.node, {}, address));
  }
  parts->metrics.start();
  Parts* raw = parts.get();
  parts->loop.spawn_root(static_cast<std::uint16_t>(cluster::Role::kGateway), 0, [raw, settings = std::move(settings)] {
    return std::make_unique<actors::Gateway>(settings, raw->port, raw->metrics);
  });
  std::vector<std::string> names;
  for (const auto& node : state.config.nodes) names.push_back(node.name);
  parts->loop.spawn_root(kWatchType, 0,
                         [raw, names] { return std::make_unique<cluster::ClusterWatch>(names, raw->watch); });
  return std::unique_ptr<GatewayProcess>(new GatewayProcess(std::move(parts)));
}

std::shared_ptr<actors::RequestPort> GatewayProcess::port() const { return parts_->port; }
std::shared_ptr<cluster::WatchPort> GatewayProcess::watch() const { return parts_->watch; }
bool GatewayProcess::has_thinking_switch() const { return parts_->has_thinking_switch; }
std::uint32_t GatewayProcess::context_tokens() const { return parts_->context_tokens; }
std::shared_ptr<const runtime::MetricsSnapshot> GatewayProcess::metrics() const { return parts_->metrics.snapshot(); }
void GatewayProcess::run(const std::function<void()>& on_serving) {
  while (!parts_->loop.run_until([this] { return parts_->port->state().serves; }, parts_->clock.now() + kLookEvery)) {
  }
  on_serving();
  parts_->loop.run(runtime::Duration::zero());
}

bool GatewayProcess::turn_until(const std::function<bool()>& done, runtime::Duration deadline) {
  return parts_->loop.run_until(done, parts_->clock.now() + deadline);
}

std::string served_name(const cluster::ClusterConfig& config) {
  if (!config.gateway.model_name.empty()) return config.gateway.model_name;
  return std::filesystem::path(config.model).lexically_normal().filename().string();
}

}  // namespace consort::cli
