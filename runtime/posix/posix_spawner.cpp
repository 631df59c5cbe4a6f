#include "runtime/posix/posix_spawner.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "runtime/check.hpp"

namespace consort::runtime::posix {
namespace {

// Between fork and exec: only what is safe there. Leaves through exec, or tells the parent errno.
[[noreturn]] void become(const char* program, char* const* arguments, pid_t parent, int error_fd) {
  // SIGKILL when the thread that forked ends; it may have ended before this call.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  // Libraries may have opened descriptors that would be inherited; they close at exec, as error_fd does.
  ::syscall(SYS_close_range, 3u, ~0u, static_cast<unsigned>(CLOSE_RANGE_CLOEXEC));
  ::execv(program, arguments);
  const int code = errno;
  [[maybe_unused]] const auto wrote = ::write(error_fd, &code, sizeof code);
  ::_exit(127);
}

std::string own_name(const std::string& program) {
  std::array<char, 4096> path{};
  const ssize_t length = ::readlink(program.c_str(), path.data(), path.size());
  return length > 0 ? std::string(path.data(), static_cast<std::size_t>(length)) : program;
}

}  // namespace

PosixSpawner::PosixSpawner(std::string program)
    : program_(std::move(program)), epoll_fd_(::epoll_create1(EPOLL_CLOEXEC)) {
  CONSORT_CHECK(epoll_fd_ >= 0, errno);
}

PosixSpawner::~PosixSpawner() {
  for (const Child& child : children_) {
    ::kill(static_cast<pid_t>(child.process), SIGKILL);
    ::waitpid(static_cast<pid_t>(child.process), nullptr, 0);
    if (child.pid_fd >= 0) ::close(child.pid_fd);
  }
  ::close(epoll_fd_);
}

Outcome<ProcessId> PosixSpawner::start(const ProcessSpec& spec) {
  std::vector<std::string> words{own_name(program_)};
  words.insert(words.end(), spec.arguments.begin(), spec.arguments.end());
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0) {
    return failure(ErrorKind::kInternal, "cannot start " + spec.name + ": " + std::strerror(errno));
  }
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) become(program_.c_str(), arguments.data(), parent, pipe_fds[1]);
  const int fork_error = errno;
  ::close(pipe_fds[1]);
  int child_error = pid < 0 ? fork_error : 0;
  if (pid > 0) {
    ssize_t got;
    do {
      got = ::read(pipe_fds[0], &child_error, sizeof child_error);  // ends when exec closed the other side
    } while (got < 0 && errno == EINTR);
  }
  ::close(pipe_fds[0]);
  if (child_error != 0) {
    if (pid > 0) ::waitpid(pid, nullptr, 0);
    return failure(ErrorKind::kInternal, "cannot start " + spec.name + ": " + std::strerror(child_error));
  }
  Child child{pid, static_cast<int>(::syscall(SYS_pidfd_open, pid, 0u))};
  if (child.pid_fd >= 0) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = child.pid_fd;
    const int added = ::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, child.pid_fd, &event);
    CONSORT_CHECK(added == 0, errno);
  }
  children_.push_back(child);
  return ProcessId{pid};
}

void PosixSpawner::kill(ProcessId process) {
  // Only a child that was not reaped yet: its number cannot be anybody else's.
  const auto known =
      std::any_of(children_.begin(), children_.end(), [&](const Child& c) { return c.process == process; });
  if (known) ::kill(static_cast<pid_t>(process), SIGKILL);
}

bool PosixSpawner::reap(const Child& child, std::string& how) {
  int status = 0;
  const pid_t got = ::waitpid(static_cast<pid_t>(child.process), &status, WNOHANG);
  if (got == 0 || (got < 0 && errno == EINTR)) return false;
  if (got < 0) {
    how = std::string("unknown: ") + std::strerror(errno);
  } else if (WIFSIGNALED(status)) {
    how = "signal " + std::to_string(WTERMSIG(status));
  } else {
    how = "exit code " + std::to_string(WEXITSTATUS(status));
  }
  return true;
}

bool PosixSpawner::poll() {
  if (children_.empty()) return false;
  epoll_event event{};
  const bool told = ::epoll_wait(epoll_fd_, &event, 1, 0) > 0;
  const bool untold = std::any_of(children_.begin(), children_.end(), [](const Child& c) { return c.pid_fd < 0; });
  if (!told && !untold) return false;
  std::vector<ProcessExit> exits;
  std::erase_if(children_, [&](const Child& child) {
    std::string how;
    if (!reap(child, how)) return false;
    if (child.pid_fd >= 0) ::close(child.pid_fd);
    exits.push_back({child.process, std::move(how)});
    return true;
  });
  // After the list is whole again: the callback may start the next one.
  for (auto& exit : exits) {
    if (on_exit_) on_exit_(std::move(exit));
  }
  return !exits.empty();
}

}  // namespace consort::runtime::posix
