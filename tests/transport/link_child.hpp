// LinkChild: a second process with a UCX link, to be killed and stopped. The test binary runs itself with one case.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "link_rig.hpp"

extern char** environ;

namespace consort::tests {

inline constexpr const char* kChildVariable = "CONSORT_LINK_CHILD";  // the descriptor to talk to the parent over
inline constexpr const char* kChildCase = "link child: echoes frames until its parent closes";

// Address and token over a socket pair, length first.
inline bool write_all(int fd, const void* data, std::size_t size) {
  const auto* at = static_cast<const char*>(data);
  while (size > 0) {
    const auto n = ::write(fd, at, size);
    if (n <= 0) return false;
    at += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}
inline bool read_all(int fd, void* data, std::size_t size) {
  auto* at = static_cast<char*>(data);
  while (size > 0) {
    const auto n = ::read(fd, at, size);
    if (n <= 0) return false;
    at += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}
inline bool write_where(int fd, const runtime::LinkAddress& address, const runtime::LinkToken& token) {
  const std::uint32_t size = static_cast<std::uint32_t>(address.bytes.size());
  return write_all(fd, &size, sizeof size) && write_all(fd, address.bytes.data(), size) && write_all(fd, token.data(), token.size());
}
inline bool read_where(int fd, runtime::LinkAddress& address, runtime::LinkToken& token) {
  std::uint32_t size = 0;
  if (!read_all(fd, &size, sizeof size) || size > 65536) return false;
  address.bytes.resize(size);
  return read_all(fd, address.bytes.data(), size) && read_all(fd, token.data(), token.size());
}

class LinkChild {
 public:
  LinkChild(RigNode& parent, NodeId node, Incarnation incarnation, bool tcp, bool echo) : node_(node), incarnation_(incarnation) {
    int fds[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    REQUIRE(::fcntl(fds[1], F_SETFD, 0) == 0);
    fd_ = fds[0];
    std::vector<std::string> variables;
    for (char** v = environ; *v != nullptr; ++v) variables.emplace_back(*v);
    variables.push_back(std::string(kChildVariable) + '=' + std::to_string(fds[1]) + ' ' + std::to_string(node.value) + ' ' +
                        std::to_string(incarnation.value) + (tcp ? " tcp" : " any") + (echo ? " echo" : " mute"));
    std::vector<char*> environment;
    for (auto& v : variables) environment.push_back(v.data());
    environment.push_back(nullptr);
    std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
    std::string filter = std::string("--test-case=") + kChildCase;
    std::string whatever = "--no-skip";
    char* arguments[] = {program.data(), filter.data(), whatever.data(), nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    REQUIRE(::posix_spawn(&process_, program.c_str(), &actions, nullptr, arguments, environment.data()) == 0);
    posix_spawn_file_actions_destroy(&actions);
    ::close(fds[1]);
    runtime::LinkAddress address;
    runtime::LinkToken token{};
    REQUIRE(read_where(fd_, address, token));
    REQUIRE(write_where(fd_, parent.link->address(), parent.link->token()));
    REQUIRE(parent.link->connect(node, incarnation, address, token).ok());
  }
  ~LinkChild() {
    if (fd_ >= 0) ::close(fd_);
    if (process_ > 0) {
      ::kill(process_, SIGKILL);
      ::waitpid(process_, nullptr, 0);
    }
  }
  LinkChild(const LinkChild&) = delete;
  LinkChild& operator=(const LinkChild&) = delete;

  // A killed child is waited for, as the node agent does: UCX takes a zombie for a living peer.
  void signal(int number) {
    REQUIRE(::kill(process_, number) == 0);
    if (number != SIGKILL) return;
    ::waitpid(process_, nullptr, 0);
    process_ = 0;
  }
  NodeId node() const { return node_; }
  Incarnation incarnation() const { return incarnation_; }

 private:
  pid_t process_ = 0;
  int fd_ = -1;
  NodeId node_;
  Incarnation incarnation_;
};

}  // namespace consort::tests
