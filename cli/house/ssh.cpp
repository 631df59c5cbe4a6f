#include "cli/house/ssh.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace consort::cli {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::size_t kMaxOutputBytes = std::size_t{4} << 20;  // logs of all processes of a host are the most
constexpr std::size_t kMaxErrorBytes = 4000;                   // the last words are kept
constexpr int kSshFailed = 255;                                // of ssh itself, not of the command
constexpr int kNoProgram = 127;                                // says the shell
constexpr int kNotExecutable = 126;

// Three pipes to a child; those that are still open are closed with it.
struct Pipes {
  std::array<int, 2> in{-1, -1};
  std::array<int, 2> out{-1, -1};
  std::array<int, 2> error{-1, -1};
  ~Pipes() {
    for (auto* pipe : {&in, &out, &error}) {
      close_end(pipe->at(0));
      close_end(pipe->at(1));
    }
  }
  bool open() {
    return ::pipe2(in.data(), O_CLOEXEC) == 0 && ::pipe2(out.data(), O_CLOEXEC) == 0 &&
           ::pipe2(error.data(), O_CLOEXEC) == 0;
  }
  static void close_end(int& end) {
    if (end >= 0) ::close(end);
    end = -1;
  }
};

Outcome<pid_t> start(const std::vector<std::string>& words, Pipes& pipes) {
  std::vector<std::string> copies = words;
  std::vector<char*> argv;
  for (auto& word : copies) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, pipes.in[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, pipes.out[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, pipes.error[1], STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, argv[0], &files, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) {
    return failure(ErrorKind::kInvalid, std::string("ssh cannot be started (") + std::strerror(error) +
                                            "): install it, with apt-get install openssh-client");
  }
  Pipes::close_end(pipes.in[0]);
  Pipes::close_end(pipes.out[1]);
  Pipes::close_end(pipes.error[1]);
  return pid;
}

// SIGPIPE would end the program where ssh closes its input early.
class WithoutSigpipe {
 public:
  WithoutSigpipe() { before_ = ::signal(SIGPIPE, SIG_IGN); }
  ~WithoutSigpipe() { ::signal(SIGPIPE, before_); }
  WithoutSigpipe(const WithoutSigpipe&) = delete;
  WithoutSigpipe& operator=(const WithoutSigpipe&) = delete;

 private:
  void (*before_)(int);
};

struct Talk {
  std::string out;
  std::string error;
  bool in_time = false;  // else the deadline passed, or it said too much
};

void take(int& end, std::string& text) {
  std::array<char, 16384> block;
  const ssize_t got = ::read(end, block.data(), block.size());
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got <= 0) return Pipes::close_end(end);
  text.append(block.data(), static_cast<std::size_t>(got));
}

Talk talk(Pipes& pipes, std::string_view input, Clock::time_point deadline) {
  Talk talk;
  ::fcntl(pipes.in[1], F_SETFL, O_NONBLOCK);
  if (input.empty()) Pipes::close_end(pipes.in[1]);
  while (pipes.out[0] >= 0 || pipes.error[0] >= 0) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0 || talk.out.size() > kMaxOutputBytes) return talk;
    std::array<pollfd, 3> ends{{{pipes.in[1], POLLOUT, 0}, {pipes.out[0], POLLIN, 0}, {pipes.error[0], POLLIN, 0}}};
    if (::poll(ends.data(), ends.size(), static_cast<int>(std::min<long long>(left, 1000))) < 0) continue;
    if (ends[0].revents != 0) {
      const ssize_t written = ::write(pipes.in[1], input.data(), input.size());
      if (written > 0) input.remove_prefix(static_cast<std::size_t>(written));
      const bool failed = written < 0 && errno != EINTR && errno != EAGAIN;
      if (input.empty() || failed) Pipes::close_end(pipes.in[1]);
    }
    if (ends[1].revents != 0) take(pipes.out[0], talk.out);
    if (ends[2].revents != 0) take(pipes.error[0], talk.error);
    if (talk.error.size() > 2 * kMaxErrorBytes) talk.error.erase(0, talk.error.size() - kMaxErrorBytes);
  }
  talk.in_time = true;
  return talk;
}

std::string words_of(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text.empty() ? "it said nothing" : text;
}

}  // namespace

std::string shell_quoted(std::string_view word) {
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

Outcome<std::string> run_ssh(const std::string& destination, const std::vector<std::string>& command,
                             std::string_view input, std::chrono::milliseconds deadline) {
  std::string there;
  for (const auto& word : command) there += (there.empty() ? "" : " ") + shell_quoted(word);
  const WithoutSigpipe guard;
  Pipes pipes;
  if (!pipes.open()) return failure(ErrorKind::kInternal, std::string("no pipe: ") + std::strerror(errno));
  const std::vector<std::string> words{
      "ssh", "-T",        "-o", "BatchMode=yes", "-o", "ConnectTimeout=" + std::to_string(kSshConnectTime.count()),
      "--",  destination, there};
  CONSORT_TRY(const pid_t pid, start(words, pipes));
  Talk said = talk(pipes, input, Clock::now() + deadline);
  if (!said.in_time) ::kill(pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  const std::string to_try = "try: ssh -o BatchMode=yes " + destination + " true";
  if (!said.in_time) {
    return failure(ErrorKind::kTimedOut, "ssh " + destination + ": no answer in " +
                                             std::to_string(deadline / std::chrono::seconds(1)) + " s; " + to_try);
  }
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (code == 0) return std::move(said.out);
  if (code == kSshFailed) {
    return failure(ErrorKind::kPeerDown, "ssh " + destination + " fails: " + words_of(said.error) + "; " + to_try);
  }
  if (code == kNoProgram || code == kNotExecutable) {
    return failure(ErrorKind::kInvalid, "ssh " + destination + ": there is no program " + command.front() +
                                            " that can be run there: copy this one there, "
                                            "or say where it is with `program` in [[host]]");
  }
  return failure(ErrorKind::kInvalid, "ssh " + destination + ": " + words_of(said.error));
}

}  // namespace consort::cli
