// PosixDisk: files that survive a power cut. Appends are written and synced by a thread of its own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "runtime/env.hpp"

namespace consort::runtime::posix {

// Files are made with mode 0600 and never through a symbolic link. Ends its thread after what was accepted is written;
// its files may outlive it, and then refuse to append.
class PosixDisk final : public Disk {
 public:
  PosixDisk();
  ~PosixDisk() override;

  Outcome<std::vector<std::byte>> read(const std::string& path) override;
  // After a write that failed the file ends where it ended before; after a sync that failed nothing more is accepted,
  // since the kernel may have dropped the pages.
  Outcome<std::unique_ptr<DiskFile>> open_append(const std::string& path) override;
  Status replace(const std::string& path, std::span<const std::byte> bytes) override;

  class Writer;

 private:
  std::shared_ptr<Writer> writer_;
};

}  // namespace consort::runtime::posix
