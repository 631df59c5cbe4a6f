#include "cli/house/state_folder.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace consort::cli {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

namespace {

constexpr std::size_t kMaxNameBytes = 64;
constexpr std::size_t kMaxFileBytes = std::size_t{16} << 20;  // no text file of ours is near this

Outcome<std::string> base_folder() {
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state != 0) return std::string(state);
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != 0) return std::string(home) + "/.local/state";
  return failure(ErrorKind::kInvalid, "neither XDG_STATE_HOME nor HOME is set: set one, the cluster's keys live there");
}

Status make_folder(const std::string& path) {
  for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (::mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) {
      return failure(ErrorKind::kInvalid, "cannot make folder " + part + ": " + std::strerror(errno));
    }
    if (slash == std::string::npos) return runtime::done();
  }
}

Status write_all(int file, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t written = ::write(file, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failure(ErrorKind::kInvalid, "cannot write " + path + ": " + std::strerror(errno));
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return runtime::done();
}

}  // namespace

Outcome<StateFolder> StateFolder::of_cluster(std::string_view cluster_name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
  };
  if (cluster_name.empty() || cluster_name.size() > kMaxNameBytes || cluster_name.front() == '.' ||
      !std::all_of(cluster_name.begin(), cluster_name.end(), allowed)) {
    return failure(ErrorKind::kInvalid, "cluster name '" + std::string(cluster_name) +
                                            "': use 1 to 64 of a-z, 0-9, '.', '_', '-', not starting with '.'");
  }
  CONSORT_TRY(const std::string base, base_folder());
  return StateFolder(base + "/consort/" + std::string(cluster_name));
}

Status StateFolder::create() const {
  for (const char* sub : {"", "/keys", "/run", "/log"}) CONSORT_RETURN_IF_ERROR(make_folder(path_ + sub));
  return runtime::done();
}

Status StateFolder::write(const std::string& file, std::string_view text) {
  const std::string temporary = file + ".new." + std::to_string(::getpid());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return failure(ErrorKind::kInvalid, "cannot write " + temporary + ": " + std::strerror(errno));
  Status status = write_all(fd, text, temporary);
  // Else a power loss could leave the new name with nothing in it.
  if (status.ok() && ::fsync(fd) != 0) {
    status = failure(ErrorKind::kInvalid, "cannot sync " + temporary + ": " + std::strerror(errno));
  }
  ::close(fd);
  if (status.ok() && ::rename(temporary.c_str(), file.c_str()) != 0) {
    status = failure(ErrorKind::kInvalid, "cannot write " + file + ": " + std::strerror(errno));
  }
  if (!status.ok()) ::unlink(temporary.c_str());
  return status;
}

Outcome<std::string> StateFolder::read(const std::string& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return failure(ErrorKind::kInvalid, "cannot read " + file + ": " + std::strerror(errno));
  std::string text;
  std::array<char, 4096> block;
  for (;;) {
    const ssize_t got = ::read(fd, block.data(), block.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || text.size() > kMaxFileBytes) break;
    text.append(block.data(), static_cast<std::size_t>(got));
  }
  ::close(fd);
  return text;
}

std::optional<std::string> StateFolder::read_if_there(const std::string& file) {
  auto text = read(file);
  if (!text.ok()) return std::nullopt;
  return std::move(text).value();
}

std::optional<int> StateFolder::living_process(std::string_view process) const {
  const auto text = read_if_there(pid_file(process));
  if (!text) return std::nullopt;
  const int pid = std::atoi(text->c_str());
  if (pid <= 1 || ::kill(pid, 0) != 0) return std::nullopt;
  const auto command = read_if_there("/proc/" + std::to_string(pid) + "/cmdline");
  // Empty while the kernel still lays out a process that was just started; another text: the number went to another.
  if (!command || (!command->empty() && command->find("-process") == std::string::npos)) return std::nullopt;
  return pid;
}

}  // namespace consort::cli
