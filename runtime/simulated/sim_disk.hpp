// SimDisk: a host's files. What was not synced when a process crashes is lost or torn; what was synced stays for ever.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/env.hpp"
#include "runtime/fifo.hpp"
#include "runtime/simulated/models.hpp"

namespace consort::runtime {

class World;

// What a host keeps over the lives of its processes, and what is wrong with it.
struct SimStorage {
  std::map<std::string, std::vector<std::byte>> files;
  std::size_t capacity_bytes = 0;
  Duration extra_sync{0};    // added to every sync
  bool always_tear = false;  // a crash leaves half of the first unsynced append, never all or nothing
  std::uint64_t torn_appends = 0;
  std::uint64_t lost_appends = 0;
  std::size_t used_bytes() const;
};

class SimDisk final : public Disk {
 public:
  SimDisk(World& world, std::uint32_t process, SimStorage& storage, Rng rng);
  ~SimDisk() override;

  Outcome<std::vector<std::byte>> read(const std::string& path) override;
  Outcome<std::unique_ptr<DiskFile>> open_append(const std::string& path) override;
  Status replace(const std::string& path, std::span<const std::byte> bytes) override;

  std::size_t pending() const { return pending_.size(); }

  // --- the world calls these ---
  void complete_first();  // the first sync ends
  void crash();           // decides what of the unsynced appends the storage keeps

 private:
  friend class SimFile;
  struct Append {
    std::string path;
    std::vector<std::byte> bytes;
    std::function<void(Status)> done;
  };
  void append(const std::string& path, std::vector<std::byte> bytes, std::function<void(Status)> done);

  World& world_;
  const std::uint32_t process_;
  SimStorage& storage_;
  Rng rng_;
  Instant last_sync_{};
  Fifo<Append> pending_;
};

}  // namespace consort::runtime
