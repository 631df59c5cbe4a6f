#include "cli/house/real_process.hpp"

#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "cli/house/child_process.hpp"
#include "cli/house/control_plane.hpp"
#include "cli/house/controllers.hpp"
#include "cli/house/plan_model.hpp"
#include "cli/house/worker.hpp"
#include "kernels/cpu_device.hpp"
#include "kernels/instruction_set.hpp"
#include "model/checkpoint.hpp"
#include "runtime/event_loop.hpp"
#include "runtime/pinning.hpp"
#include "runtime/posix/posix_clock.hpp"
#include "runtime/posix/posix_disk.hpp"
#include "runtime/posix/posix_spawner.hpp"
#include "runtime/trace.hpp"
#include "transport/shaped_link.hpp"
#include "transport/ucx_link.hpp"

namespace consort::cli {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

namespace {

constexpr auto kSpin =
    std::chrono::microseconds(30);  // actor-runtime measurements: longer wins nothing on a pinned loop

void say(std::string_view text) { std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data()); }

// What every process has. Members end in reverse order: the loop before its Env's things, the links after the loop.
struct Ground {
  explicit Ground(runtime::NodeId node) : loop(node), env{clock, rng, loop, terminator, trace} {}

  runtime::posix::PosixClock clock;
  runtime::Rng rng{runtime::posix::kernel_seed()};
  runtime::Trace trace;
  runtime::posix::ExitTerminator terminator;
  runtime::posix::PosixDisk disk;
  ControlLink control;
  runtime::EventLoop loop;
  runtime::Env env;
};

Outcome<std::unique_ptr<Ground>> lay_ground(const ClusterState& state, const ProcessPlace& place) {
  auto ground = std::make_unique<Ground>(place.node);
  CONSORT_TRY(ground->control, open_control_link(state, place));
  ground->env.disk = &ground->disk;
  ground->env.control = ground->control.link.get();
  ground->loop.add_source(*ground->control.source);
  return ground;
}

// Spinning pays only where every loop of the host can have a core: the workers', an agent's and a Coordinator's.
runtime::Duration spin_of(const ClusterState& state, const std::string& host) {
  const auto workers = std::ranges::count(state.processes.workers, host, &ProcessPlace::host);
  const bool has_core = static_cast<std::size_t>(workers) + 2 < runtime::this_machine().cores.size();
  return has_core ? runtime::Duration(kSpin) : runtime::Duration::zero();
}

// Cores of this host that a node without `cores` may count as its own.
int share_of_cores(const ClusterState& state, const std::string& host) {
  const auto workers = std::max<long>(1, std::ranges::count(state.processes.workers, host, &ProcessPlace::host));
  return std::max(1, static_cast<int>(runtime::this_machine().cores.size()) / static_cast<int>(workers));
}

kernels::CpuDeviceOptions device_options(const ClusterState& state, const cluster::NodeConfig& node) {
  kernels::CpuDeviceOptions options;
  options.cores = node.cores;
  options.threads = node.threads.value_or(node.cores.empty() ? share_of_cores(state, node.host)
                                                             : static_cast<int>(node.cores.size()));
  options.slowdown = node.slowdown;
  return options;
}

}  // namespace

Status run_worker(const ClusterState& state, const std::string& name) {
  const auto place = std::ranges::find(state.processes.workers, name, &ProcessPlace::name);
  if (place == state.processes.workers.end()) return failure(ErrorKind::kInvalid, "no node is named '" + name + "'");
  const auto index = static_cast<std::size_t>(place - state.processes.workers.begin());
  const cluster::NodeConfig& node = state.config.nodes[index];
  CONSORT_RETURN_IF_ERROR(kernels::check_cpu());
  CONSORT_RETURN_IF_ERROR(runtime::pin_this_thread(node.cores));
  CONSORT_TRY(const auto memory, load_worker_memory(state.config, index));
  CONSORT_TRY(auto ground, lay_ground(state, *place));
  kernels::CpuDevice device(device_options(state, node), ground->clock, ground->trace);
  transport::UcxOptions ucx_options;
  ucx_options.warn = say;
  ucx_options.pool = &memory->buffers;
  ucx_options.shared_memory = state.config.shared_memory;
  CONSORT_TRY(std::unique_ptr<transport::UcxLink> ucx, transport::UcxLink::open(place->node, {}, ucx_options));
  say(ucx->settings());
  say("instruction set " + kernels::chosen_instruction_set());
  std::unique_ptr<transport::ShapedLink> shaped;
  if (node.shape != cluster::LinkShape{}) {
    shaped = std::make_unique<transport::ShapedLink>(
        *ucx, ground->loop, ground->clock, transport::LinkShape{node.shape.delay, node.shape.bytes_per_second});
  }
  ground->env.device = &device;
  ground->env.data = shaped ? static_cast<runtime::Link*>(shaped.get()) : ucx.get();
  ground->loop.set_env(ground->env);
  ground->loop.add_source(*ucx);

  WorkerOptions options;
  options.config = state.config;
  options.node_index = index;
  CONSORT_TRY(options.coordinator_address, control_address(state, state.processes.coordinator.name));
  const ProcessPlace& agent = state.processes.agent_of(node.host);
  options.agent = agent.node;
  CONSORT_TRY(options.agent_address, control_address(state, agent.name));
  options.on_joined = [&](runtime::Incarnation incarnation) {
    ucx->set_incarnation(incarnation);
    ground->control.set_incarnation(incarnation);
  };
  const Worker worker(ground->loop, std::move(options), memory);
  ground->loop.run(spin_of(state, node.host));
  return runtime::done();
}

Status run_coordinator(const ClusterState& state) {
  CONSORT_TRY(const auto checkpoint, model::Checkpoint::open(state.config.model));
  CONSORT_TRY(auto ground, lay_ground(state, state.processes.coordinator));
  ground->loop.set_env(ground->env);
  std::optional<cluster::NumericPlan> numeric_plan;
  if (!state.choices.numeric_plan.empty()) {
    CONSORT_TRY(const model::NumericPlan plan, model::plan_from_json(state.choices.numeric_plan, "--numeric-plan"));
    numeric_plan = cluster_plan(plan);
  }
  const CoordinatorProcess process(
      ground->loop, coordinator_options(state.config, checkpoint, state.folder.decisions_file(), numeric_plan));
  ground->loop.run(runtime::Duration::zero());
  return runtime::done();
}

Status run_agent(const ClusterState& state, const std::string& name) {
  const auto place = std::ranges::find(state.processes.agents, name, &ProcessPlace::name);
  if (place == state.processes.agents.end()) return failure(ErrorKind::kInvalid, "no agent is named '" + name + "'");
  CONSORT_TRY(auto ground, lay_ground(state, *place));
  runtime::posix::PosixSpawner spawner;
  ground->env.spawner = &spawner;
  ground->loop.set_env(ground->env);
  ground->loop.add_source(spawner);
  cluster::NodeAgentOptions options;
  options.host = place->host;
  options.restart = !state.choices.no_restart;
  CONSORT_TRY(options.coordinator_address, control_address(state, state.processes.coordinator.name));
  CONSORT_TRY(options.control_address, control_address(state, place->name));
  options.children = children_of(state.processes, *place, [&](const ProcessPlace& child) {
    const char* command = child.name == kCoordinatorProcess ? "coordinator-process"
                          : child.name == kGatewayProcess   ? "gateway-process"
                                                            : "worker-process";
    return std::vector<std::string>{command, "--state", state.folder.path(), "--name", child.name};
  });
  const AgentProcess process(ground->loop, std::move(options));
  ground->loop.run(runtime::Duration::zero());
  return runtime::done();
}

}  // namespace consort::cli
