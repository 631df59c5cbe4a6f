#include "cli/house/host_work.hpp"

#include <sys/resource.h>
#include <sys/utsname.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "cli/house/child_process.hpp"
#include "cli/house/cluster_state.hpp"
#include "cli/house/control_plane.hpp"
#include "cli/house/plan_model.hpp"
#include "cli/house/sha256.hpp"
#include "cli/house/worker.hpp"
#include "kernels/instruction_set.hpp"
#include "model/checkpoint.hpp"
#include "runtime/pinning.hpp"

namespace consort::cli {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;

namespace {

constexpr std::uint32_t kMaxPorts = 1024;  // processes of one host

std::uint64_t available_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::uint64_t kib = 0;
  while (file >> key >> kib) {
    if (key == "MemAvailable:") return kib << 10;
    file.ignore(64, '\n');
  }
  return 0;
}

std::vector<std::string> living(const ClusterState& state) {
  std::vector<std::string> names;
  for (const auto& process : state.processes.started()) {
    const auto pid = state.folder.living_process(process.name);
    if (pid && is_running(*pid)) names.push_back(process.name);
  }
  return names;
}

// Files of the folder that an order may write: those that `up` writes on its own machine.
bool may_write(const std::string& file) {
  if (file == "cluster.toml" || file == "options") return true;
  const std::filesystem::path path(file);
  const std::string folder = path.parent_path().string();
  const std::string name = path.filename().string();
  return (folder == "keys" || folder == "run") && !name.empty() && name.front() != '.';
}

}  // namespace

HostReport report_host(const HostQuestion& question) {
  HostReport report;
  report.build = build_name();
  struct utsname name {};
  ::uname(&name);
  report.processor_kind = name.machine;
  if (auto digest = sha256_of_file("/proc/self/exe"); digest.ok()) report.program_digest = std::move(*digest);
  report.machine = runtime::describe(runtime::this_machine());
  if (const auto cpu = kernels::check_cpu(); !cpu.ok()) report.cpu_trouble = cpu.error().text;
  report.memory_bytes = runtime::this_machine().memory_bytes;
  report.available_bytes = available_memory();
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  report.open_files = limit.rlim_cur;
  report.unix_milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  if (const auto checkpoint = model::Checkpoint::open(question.model); checkpoint.ok()) {
    report.model_manifest = manifest_of(**checkpoint);
  } else {
    report.model_trouble = checkpoint.error().text;
  }
  if (const auto ports = free_ports(question.address, std::min(question.ports, kMaxPorts)); ports.ok()) {
    for (const int port : *ports) report.ports.push_back(static_cast<std::uint32_t>(port));
  } else {
    report.ports_trouble = ports.error().text;
  }
  report.state = question.state;
  if (const auto folder = StateFolder::of_cluster(question.cluster); report.state.empty() && folder.ok()) {
    report.state = folder->path();
  }
  if (const auto state = ClusterState::of_folder(report.state); state.ok()) report.alive = living(*state);
  return report;
}

Outcome<HostStarted> start_host(const HostStart& order) {
  const StateFolder folder(order.state);
  if (order.state.empty() || order.state.front() != '/') {
    return failure(ErrorKind::kInvalid, "the state folder must be an absolute path");
  }
  if (const auto before = ClusterState::of_folder(order.state); before.ok()) {
    if (const auto alive = living(*before); !alive.empty()) {
      return failure(ErrorKind::kInvalid, "the cluster is up there already (" + alive.front() + " lives)");
    }
  }
  CONSORT_RETURN_IF_ERROR(folder.create());
  for (const auto& [file, text] : order.files) {
    if (!may_write(file)) return failure(ErrorKind::kInvalid, "'" + file + "' is no file of a state folder");
    CONSORT_RETURN_IF_ERROR(StateFolder::write(folder.path() + "/" + file, text));
  }
  forget_gateway(folder);
  CONSORT_TRY(const ClusterState state, ClusterState::of_folder(order.state));
  CONSORT_TRY(const int pid, start_agent(state, order.agent));
  return HostStarted{pid};
}

Outcome<HostSeen> look_at_host(const HostLook& order, bool kill) {
  HostSeen seen;
  if (!StateFolder::read_if_there(StateFolder(order.state).options_file())) return seen;  // nothing was started there
  CONSORT_TRY(const ClusterState state, ClusterState::of_folder(order.state));
  if (kill) {
    seen.killed = living(state);
    kill_leftovers(state);
  }
  seen.alive = living(state);
  if (const auto url = StateFolder::read_if_there(state.folder.address_file(kGatewayProcess))) {
    seen.gateway_url = url->substr(0, url->find('\n'));
  }
  for (const auto& process : state.processes.started()) seen.logs += log_tail(state, process.name);
  return seen;
}

}  // namespace consort::cli
