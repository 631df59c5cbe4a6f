#include "cli/house/child_process.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

namespace consort::cli {

using runtime::ErrorKind;
using runtime::failure;

namespace {

constexpr auto kEndWait =
    std::chrono::seconds(5);  // a killed process is gone in milliseconds, unless it hangs in the kernel
constexpr auto kEndPoll = std::chrono::milliseconds(20);
constexpr std::size_t kTailBytes = 2000;

}  // namespace

runtime::Outcome<int> start_detached(const std::vector<std::string>& arguments, const std::string& log_file) {
  std::vector<std::string> words{"consort"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, "/proc/self/exe", &files, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) return failure(ErrorKind::kInternal, std::string("cannot start a process: ") + std::strerror(error));
  return static_cast<int>(pid);
}

bool is_running(int pid) {
  int status = 0;
  if (::waitpid(pid, &status, WNOHANG) == pid) return false;  // ours, and it ended
  return ::kill(pid, 0) == 0;
}

runtime::Outcome<int> start_agent(const ClusterState& state, const std::string& agent) {
  CONSORT_TRY(const int pid, start_detached({"agent-process", "--state", state.folder.path(), "--name", agent},
                                            state.folder.log_file(agent)));
  CONSORT_RETURN_IF_ERROR(StateFolder::write(state.folder.pid_file(agent), std::to_string(pid) + "\n"));
  return pid;
}

void forget_gateway(const StateFolder& folder) {
  ::unlink(folder.address_file(kGatewayProcess).c_str());
  ::unlink(folder.pid_file(kGatewayProcess).c_str());
}

void kill_leftovers(const ClusterState& state) {
  std::vector<int> killed;
  const auto kill_process = [&](const std::string& process) {
    const auto pid = state.folder.living_process(process);
    if (pid && ::kill(*pid, SIGKILL) == 0) killed.push_back(*pid);
  };
  for (const auto& agent : state.processes.agents) kill_process(agent.name);
  for (const auto& process : state.processes.started()) kill_process(process.name);
  const auto deadline = std::chrono::steady_clock::now() + kEndWait;
  for (int pid : killed) {
    while (is_running(pid) && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(kEndPoll);
  }
}

runtime::Status enter_process(const ClusterState& state, const std::string& process) {
  const std::string log_file = state.folder.log_file(process);
  const int log = ::open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (log < 0) return failure(ErrorKind::kInvalid, "cannot write " + log_file + ": " + std::strerror(errno));
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  ::close(log);
  return StateFolder::write(state.folder.pid_file(process), std::to_string(::getpid()) + "\n");
}

std::string log_tail(const ClusterState& state, const std::string& process) {
  const auto text = StateFolder::read_if_there(state.folder.log_file(process));
  if (!text || text->empty()) return "";
  const std::size_t from = text->size() > kTailBytes ? text->size() - kTailBytes : 0;
  return "--- " + process + "\n" + text->substr(from);
}

}  // namespace consort::cli
