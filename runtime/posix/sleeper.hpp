// Sleeper: how an idle loop sleeps: epoll over its inbox and its sources.
// SPDX-License-Identifier: Apache-2.0
#pragma once

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
  void sleep(const std::vector<EventSource*>& sources, Duration longest);

 private:
  void follow(const std::vector<EventSource*>& sources);

  Inbox& inbox_;
  int epoll_fd_ = -1;
  std::vector<int> followed_;  // the sources' descriptors that epoll knows
};

}  // namespace consort::runtime::posix
