#include "runtime/pinning.hpp"

#include <hwloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>

namespace consort::runtime {
namespace {

struct Topology {
  Topology() { loaded = hwloc_topology_init(&handle) == 0 && hwloc_topology_load(handle) == 0; }
  ~Topology() { hwloc_topology_destroy(handle); }
  hwloc_topology_t handle = nullptr;
  bool loaded = false;
};

// hwloc's handle is read only after it was loaded, so that all threads share it.
const Topology& topology() {
  static const Topology instance;
  return instance;
}

Machine look() {
  Machine machine;
  const Topology& top = topology();
  if (!top.loaded) return machine;
  hwloc_obj_t root = hwloc_get_root_obj(top.handle);
  // Memory that was added while the machine ran belongs to no NUMA node that hwloc sees; the kernel counts it.
  machine.memory_bytes =
      std::max<std::uint64_t>(root->total_memory, static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                                                      static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
  hwloc_obj_t package = hwloc_get_obj_by_type(top.handle, HWLOC_OBJ_PACKAGE, 0);
  for (hwloc_obj_t from : {package, root}) {
    if (from == nullptr || !machine.processor.empty()) continue;
    if (const char* name = hwloc_obj_get_info_by_name(from, "CPUModel")) machine.processor = name;
  }
  machine.physical_cores = std::max(0, hwloc_get_nbobjs_by_type(top.handle, HWLOC_OBJ_CORE));
  machine.numa_nodes = std::max(0, hwloc_get_nbobjs_by_type(top.handle, HWLOC_OBJ_NUMANODE));
  const hwloc_obj_type_t levels[] = {HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L2CACHE, HWLOC_OBJ_L3CACHE};
  for (int level = 1; level <= 3; ++level) {
    const int count = hwloc_get_nbobjs_by_type(top.handle, levels[level - 1]);
    if (count <= 0) continue;
    const hwloc_obj_t first = hwloc_get_obj_by_type(top.handle, levels[level - 1], 0);
    machine.caches.push_back({level, first->attr->cache.size, count});
  }
  const std::unique_ptr<hwloc_bitmap_s, void (*)(hwloc_bitmap_t)> usable(hwloc_bitmap_alloc(), hwloc_bitmap_free);
  if (hwloc_get_cpubind(top.handle, usable.get(), HWLOC_CPUBIND_PROCESS) != 0) {
    hwloc_bitmap_copy(usable.get(), hwloc_topology_get_allowed_cpuset(top.handle));
  }
  for (int core = hwloc_bitmap_first(usable.get()); core >= 0; core = hwloc_bitmap_next(usable.get(), core)) {
    if (hwloc_get_pu_obj_by_os_index(top.handle, static_cast<unsigned>(core)) != nullptr) machine.cores.push_back(core);
  }
  return machine;
}

std::string size_words(std::uint64_t bytes) {
  char text[32];
  if (bytes >= (std::uint64_t{1} << 30)) {
    std::snprintf(text, sizeof text, "%.1f GiB", static_cast<double>(bytes) / static_cast<double>(1u << 30));
  } else if (bytes >= (1u << 20)) {
    std::snprintf(text, sizeof text, "%.4g MiB", static_cast<double>(bytes) / (1u << 20));
  } else {
    std::snprintf(text, sizeof text, "%llu KiB", static_cast<unsigned long long>(bytes >> 10));
  }
  return text;
}

}  // namespace

const Machine& this_machine() {
  static const Machine machine = look();
  return machine;
}

std::string describe(const Machine& machine) {
  std::string text = machine.processor.empty() ? "unknown processor" : machine.processor;
  text += ", " + std::to_string(machine.physical_cores) + (machine.physical_cores == 1 ? " core (" : " cores (") +
          std::to_string(machine.cores.size()) + " usable), " + size_words(machine.memory_bytes);
  for (const auto& cache : machine.caches) {
    text += ", L" + std::to_string(cache.level) + (cache.level == 1 ? "d " : " ");
    if (cache.count > 1) text += std::to_string(cache.count) + " x ";
    text += size_words(cache.bytes);
  }
  return text;
}

Status pin_this_thread(std::span<const int> cores) {
  if (cores.empty()) return done();
  const Topology& top = topology();
  if (!top.loaded) return failure(ErrorKind::kInternal, "the machine's topology cannot be read, so nothing is pinned");
  const std::unique_ptr<hwloc_bitmap_s, void (*)(hwloc_bitmap_t)> set(hwloc_bitmap_alloc(), hwloc_bitmap_free);
  for (const int core : cores) {
    if (core < 0 || hwloc_get_pu_obj_by_os_index(top.handle, static_cast<unsigned>(core)) == nullptr) {
      return failure(ErrorKind::kInvalid, "this machine has no core " + std::to_string(core));
    }
    hwloc_bitmap_set(set.get(), static_cast<unsigned>(core));
  }
  if (hwloc_set_cpubind(top.handle, set.get(), HWLOC_CPUBIND_THREAD) != 0) {
    return failure(ErrorKind::kInvalid, std::string("the kernel refuses these cores: ") + std::strerror(errno));
  }
  return done();
}

}  // namespace consort::runtime
