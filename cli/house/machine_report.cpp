#include "cli/house/machine_report.hpp"

#include <sys/resource.h>
#include <sys/statvfs.h>

#include <cstdio>

#include "kernels/instruction_set.hpp"
#include "runtime/pinning.hpp"
#include "transport/ucx_link.hpp"

namespace consort::cli {
namespace {

constexpr std::uint64_t kWantedSharedMemory = std::uint64_t{64} << 20;  // UCX's FIFOs and segments of some peers
constexpr rlim_t kWantedFiles = 1024;  // sockets, event descriptors, shards of a big model

Finding instruction_sets() {
  const auto cpu = kernels::check_cpu();
  if (!cpu.ok()) return {false, "instructions", cpu.error().text};
  std::string all;
  for (const auto& name : kernels::available_instruction_sets()) all += (all.empty() ? "" : ", ") + name;
  return {true, "instructions", all + "; in use: " + kernels::chosen_instruction_set()};
}

Finding shared_memory() {
  struct statvfs info {};
  if (::statvfs("/dev/shm", &info) != 0) {
    return {false, "shared memory",
            "/dev/shm is not there: mount -t tmpfs tmpfs /dev/shm, or nodes of one host use TCP"};
  }
  const std::uint64_t free_bytes = std::uint64_t{info.f_bavail} * info.f_frsize;
  const std::string free_text = std::to_string(free_bytes >> 20) + " MiB free in /dev/shm";
  if (free_bytes >= kWantedSharedMemory) return {true, "shared memory", free_text};
  return {false, "shared memory", free_text + ", 64 MiB are wanted: mount -o remount,size=1g /dev/shm"};
}

Finding open_files() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const std::string text = std::to_string(limit.rlim_cur) + " open files";
  if (limit.rlim_cur >= kWantedFiles) return {true, "limits", text};
  return {false, "limits", text + ", " + std::to_string(kWantedFiles) + " are wanted: ulimit -n 4096"};
}

Finding data_link() {
  auto link = transport::UcxLink::open(runtime::NodeId{1}, runtime::Incarnation{1});
  if (!link.ok()) return {false, "UCX", link.error().text};
  std::string first_line = (*link)->settings();
  first_line = first_line.substr(0, first_line.find('\n'));
  return {true, "UCX", "opens a worker; " + first_line};
}

}  // namespace

std::vector<Finding> examine_machine() {
  return {{true, "machine", runtime::describe(runtime::this_machine())},
          instruction_sets(),
          data_link(),
          shared_memory(),
          open_files()};
}

}  // namespace consort::cli
