#include "cli/house/machine_report.hpp"

#include <sys/resource.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>

#include "cli/house/host_work.hpp"
#include "kernels/instruction_set.hpp"
#include "runtime/pinning.hpp"
#include "transport/ucx_link.hpp"

namespace consort::cli {
namespace {

constexpr std::uint64_t kWantedSharedMemory = std::uint64_t{64} << 20;  // UCX's FIFOs and segments of some peers
constexpr std::uint64_t kWantedFiles = 1024;       // sockets, event descriptors, shards of a big model
constexpr std::int64_t kClockMilliseconds = 1000;  // beyond: logs of two machines cannot be read beside each other

std::string gib(std::uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GiB", static_cast<double>(bytes) / static_cast<double>(1u << 30));
  return text;
}

std::int64_t unix_milliseconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

Finding files_finding(std::uint64_t open_files) {
  const std::string text = std::to_string(open_files) + " open files";
  if (open_files >= kWantedFiles) return {true, "limits", text, ""};
  return {false, "limits", text + ", " + std::to_string(kWantedFiles) + " are wanted", "ulimit -n 4096"};
}

// What the nodes of a host ask for, against what is there.
Finding memory_finding(const ClusterState& state, const std::string& host, std::uint64_t memory,
                       std::uint64_t available) {
  std::uint64_t asked = 0;
  for (const auto& node : state.config.nodes) {
    if (node.host == host) asked += node.memory_bytes.value_or(0);
  }
  const std::string text = gib(memory) + ", " + gib(available) + " available; its nodes ask for " + gib(asked);
  if (asked > memory) return {false, "memory", text, "lower `memory` of the nodes at " + host};
  if (asked > available)
    return {false, "memory", text, "end what takes it there, or lower `memory` of the nodes at " + host};
  return {true, "memory", text, ""};
}

std::string own_program() {
  std::error_code error;
  const auto path = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "consort" : path.string();
}

Finding instruction_sets() {
  const auto cpu = kernels::check_cpu();
  if (!cpu.ok()) return {false, "instructions", cpu.error().text, "use a machine whose processor has FMA"};
  std::string all;
  for (const auto& name : kernels::available_instruction_sets()) all += (all.empty() ? "" : ", ") + name;
  return {true, "instructions", all + "; in use: " + kernels::chosen_instruction_set(), ""};
}

Finding shared_memory() {
  struct statvfs info {};
  if (::statvfs("/dev/shm", &info) != 0) {
    return {false, "shared memory", "/dev/shm is not there; nodes of one host use TCP",
            "mount -t tmpfs tmpfs /dev/shm"};
  }
  const std::uint64_t free_bytes = std::uint64_t{info.f_bavail} * info.f_frsize;
  const std::string free_text = std::to_string(free_bytes >> 20) + " MiB free in /dev/shm";
  if (free_bytes >= kWantedSharedMemory) return {true, "shared memory", free_text, ""};
  return {false, "shared memory", free_text + ", 64 MiB are wanted", "mount -o remount,size=1g /dev/shm"};
}

Finding open_files() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return files_finding(limit.rlim_cur);
}

Finding data_link() {
  auto link = transport::UcxLink::open(runtime::NodeId{1}, runtime::Incarnation{1});
  if (!link.ok())
    return {false, "UCX", link.error().text, "unset UCX_TLS UCX_NET_DEVICES; ucx_info -d shows what UCX finds"};
  std::string first_line = (*link)->settings();
  first_line = first_line.substr(0, first_line.find('\n'));
  return {true, "UCX", "opens a worker; " + first_line, ""};
}

}  // namespace

std::vector<Finding> examine_machine() {
  return {{true, "machine", runtime::describe(runtime::this_machine()), ""},
          instruction_sets(),
          data_link(),
          shared_memory(),
          open_files()};
}

std::vector<Finding> examine_own_hosts(const ClusterState& state) {
  std::vector<Finding> findings;
  for (const auto& agent : state.processes.agents) {
    if (state.config.is_elsewhere(agent.host)) continue;
    HostQuestion question;
    question.cluster = state.config.name;
    question.model = state.config.model;
    question.address = agent.host;
    question.ports = static_cast<std::uint32_t>(state.processes.of_host(agent.host).size());
    const HostReport report = report_host(question);
    findings.push_back(
        report.ports_trouble.empty()
            ? Finding{true, "ports", std::to_string(report.ports.size()) + " are free on " + agent.host, ""}
            : Finding{false, "ports", report.ports_trouble, "give the nodes another host"});
    findings.push_back(memory_finding(state, agent.host, report.memory_bytes, report.available_bytes));
  }
  return findings;
}

std::vector<Finding> examine_host(const Elsewhere& elsewhere, const ClusterState& state,
                                  const cluster::HostConfig& host) {
  const std::int64_t asked_at = unix_milliseconds();
  const auto report = elsewhere.report(host);
  const std::int64_t answered_at = unix_milliseconds();
  if (!report.ok()) {
    const bool is_reached = report.error().kind == runtime::ErrorKind::kInvalid;
    if (!is_reached) return {{false, "ssh", report.error().text, "ssh -o BatchMode=yes " + host.ssh + " true"}};
    return {{true, "ssh", host.ssh + " is reached", ""},
            {false, "program", report.error().text, "scp " + own_program() + " " + host.ssh + ":" + host.program}};
  }
  HostQuestion question;
  question.cluster = state.config.name;
  question.model = state.config.model;
  question.address = "127.0.0.1";
  const HostReport here = report_host(question);
  std::vector<Finding> findings{{true, "ssh", host.ssh + " is reached", ""}, {true, "machine", report->machine, ""}};
  const auto add = [&](const std::string& subject, const std::string& trouble, const std::string& good,
                       const std::string& mend) {
    findings.push_back({trouble.empty(), subject, trouble.empty() ? good : trouble, trouble.empty() ? "" : mend});
  };
  add("program", build_trouble(*report, here), host.program + " is the same build",
      "scp " + own_program() + " " + host.ssh + ":" + host.program);
  add("instructions", report->cpu_trouble, report->processor_kind, "use a machine whose processor has FMA");
  const std::string model = host.model.empty() ? state.config.model : host.model;
  std::string model_trouble = report->model_trouble;
  if (model_trouble.empty() && report->model_manifest != here.model_manifest)
    model_trouble = model + " is another model";
  add("model", model_trouble, model + " is whole",
      "rsync -a " + state.config.model + "/ " + host.ssh + ":" + model + "/");
  findings.push_back(memory_finding(state, host.address, report->memory_bytes, report->available_bytes));
  add("ports", report->ports_trouble, std::to_string(report->ports.size()) + " are free on " + host.address,
      "give the nodes another host: see `ip addr` there");
  findings.push_back(files_finding(report->open_files));
  // Its clock was read somewhere between asking and the answer.
  const std::int64_t ahead = std::max<std::int64_t>(report->unix_milliseconds - answered_at, 0);
  const std::int64_t behind = std::max<std::int64_t>(asked_at - report->unix_milliseconds, 0);
  const std::string off = std::to_string(std::max(ahead, behind)) + " ms " + (ahead > behind ? "ahead" : "behind");
  const bool is_good = std::max(ahead, behind) <= kClockMilliseconds;
  findings.push_back({is_good, "clock", is_good ? "within " + std::to_string(kClockMilliseconds) + " ms" : off,
                      is_good ? "" : "ssh " + host.ssh + " timedatectl set-ntp true"});
  if (!report->alive.empty()) {
    findings.push_back({true, "cluster", std::to_string(report->alive.size()) + " of its processes live there", ""});
  }
  findings.push_back({true, "state", report->state, ""});
  return findings;
}

}  // namespace consort::cli
