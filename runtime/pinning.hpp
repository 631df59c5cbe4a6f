// What this machine has (cores, memory, caches), and keeping a thread on some of its cores.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/outcome.hpp"

namespace consort::runtime {

struct Machine {
  struct Cache {
    int level = 0;
    std::uint64_t bytes = 0;
    int count = 0;
  };
  std::string processor;  // the model's name, or empty
  int physical_cores = 0;
  std::vector<int> cores;  // the numbers of the logical cores that this process may use, as the kernel counts
  int numa_nodes = 0;
  std::uint64_t memory_bytes = 0;
  std::vector<Cache> caches;  // data and unified, from level 1 up
};
// Looked up at the first call.
const Machine& this_machine();
// "AMD EPYC ..., 2 cores (2 usable), 23.4 GiB, L1d 2 x 32 KiB, L2 2 x 1 MiB, L3 32 MiB"
std::string describe(const Machine& machine);

// Keeps the calling thread on these logical cores; an empty list changes nothing. kInvalid names what is not there.
Status pin_this_thread(std::span<const int> cores);

}  // namespace consort::runtime
