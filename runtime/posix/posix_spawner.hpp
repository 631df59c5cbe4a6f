// PosixSpawner: starts processes of this program, which die with it, and notices their ends.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "runtime/env.hpp"

namespace consort::runtime::posix {

// Belongs to one loop, as a source, and to the thread that starts processes: the kernel kills the children when that
// thread ends, however it ends.
class PosixSpawner final : public Spawner, public EventSource {
 public:
  // program: what is executed; "/proc/self/exe" is this very program, also when its file was replaced.
  explicit PosixSpawner(std::string program = "/proc/self/exe");
  ~PosixSpawner() override;  // kills and reaps what still runs

  Outcome<ProcessId> start(const ProcessSpec& spec) override;
  void kill(ProcessId process) override;
  void on_exit(std::function<void(ProcessExit)> callback) override { on_exit_ = std::move(callback); }

  bool poll() override;
  int fd() const override { return epoll_fd_; }

 private:
  struct Child {
    ProcessId process = 0;
    int pid_fd = -1;  // readable when it has ended; -1 where the kernel has none: then poll() asks
  };
  bool reap(const Child& child, std::string& how);

  const std::string program_;
  int epoll_fd_ = -1;
  std::vector<Child> children_;
  std::function<void(ProcessExit)> on_exit_;
};

}  // namespace consort::runtime::posix
