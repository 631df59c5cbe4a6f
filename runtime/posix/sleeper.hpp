// Sleeper: how an idle loop sleeps: epoll over its inbox and its sources.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/env.hpp"
#include "runtime/inbox.hpp"
#include "runtime/time.hpp"

namespace consort::runtime::posix {

class Sleeper {
 public:
  explicit Sleeper(Inbox& inbox);
  ~Sleeper();
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;

  // Until the inbox or a source has something, at most `longest`. Returns at once where there is work already.
  // version: another one whenever the sources are others; telling epoll of them again costs a system call each.
  void sleep(const std::vector<EventSource*>& sources, std::uint64_t version, Duration longest);

 private:
  void follow(const std::vector<EventSource*>& sources);

  Inbox& inbox_;
  int epoll_fd_ = -1;
  std::vector<int> followed_;  // the sources' descriptors that epoll knows
  std::optional<std::uint64_t> version_;
};

}  // namespace consort::runtime::posix
