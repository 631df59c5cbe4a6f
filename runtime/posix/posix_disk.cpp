#include "runtime/posix/posix_disk.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

namespace consort::runtime::posix {
namespace {

// A log entry is some kilobytes and its writer waits for the sync before it answers anybody: 1024 waiting are a bug or
// a disk that stands still.
constexpr std::size_t kMaxAppendsWaiting = 1024;
constexpr std::size_t kMaxFileBytes = std::size_t{1}
                                      << 30;  // read() is for logs and keys; a log is compacted far below

Error os_failure(const std::string& what, const std::string& path) {
  const int code = errno;
  const auto kind =
      code == ENOENT || code == EACCES || code == ELOOP || code == ENOTDIR ? ErrorKind::kInvalid : ErrorKind::kInternal;
  return {kind, what + " " + path + ": " + std::strerror(code)};
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

bool write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(fd, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(wrote));
  }
  return true;
}

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// A new name survives only when its folder is synced.
Status sync_folder(const std::string& path) {
  const std::string folder = folder_of(path);
  const Fd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) return os_failure("cannot open the folder", folder);
  if (::fsync(fd.get()) != 0) return os_failure("cannot sync the folder", folder);
  return done();
}

// One append to an open file, on the writer's thread.
struct OpenFile {
  OpenFile(int file, std::string file_path) : fd(file), path(std::move(file_path)) {}
  Fd fd;
  const std::string path;
  bool broken = false;  // the writer's thread only

  Status append(std::span<const std::byte> bytes) {
    if (broken) return failure(ErrorKind::kInternal, path + " takes no more appends: an earlier sync failed");
    struct stat before {};
    if (::fstat(fd.get(), &before) != 0) return os_failure("cannot look at", path);
    if (!write_all(fd.get(), bytes)) {
      const Error error = os_failure("cannot append to", path);
      broken = ::ftruncate(fd.get(), before.st_size) != 0;
      return error;
    }
    if (::fdatasync(fd.get()) != 0) {
      broken = true;
      return os_failure("cannot sync", path);
    }
    return done();
  }
};

}  // namespace

class PosixDisk::Writer {
 public:
  Writer() : thread_([this] { write_until_closed(); }) {}

  // Ends the thread when all that was accepted is written.
  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    ready_.notify_one();
    thread_.join();
  }

  void append(std::shared_ptr<OpenFile> file, std::vector<std::byte> bytes, std::function<void(Status)> done) {
    std::optional<Error> refused;
    {
      const std::lock_guard lock(mutex_);
      if (closed_) {
        refused = Error{ErrorKind::kCancelled, "the disk is closed"};
      } else if (jobs_.size() >= kMaxAppendsWaiting) {
        refused = Error{ErrorKind::kExhausted, std::to_string(jobs_.size()) + " appends wait for the disk"};
      } else {
        jobs_.push_back({std::move(file), std::move(bytes), std::move(done)});
      }
    }
    if (refused) return done(*std::move(refused));
    ready_.notify_one();
  }

 private:
  struct Job {
    std::shared_ptr<OpenFile> file;
    std::vector<std::byte> bytes;
    std::function<void(Status)> done;
  };

  void write_until_closed() {
    std::unique_lock lock(mutex_);
    for (;;) {
      ready_.wait(lock, [&] { return closed_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      Job job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job.done(job.file->append(job.bytes));
      job = {};
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<Job> jobs_;
  bool closed_ = false;
  std::thread thread_;  // last: it uses all the others
};

namespace {

class AppendFile final : public DiskFile {
 public:
  AppendFile(std::shared_ptr<PosixDisk::Writer> writer, std::shared_ptr<OpenFile> file)
      : writer_(std::move(writer)), file_(std::move(file)) {}
  void append_synced(std::vector<std::byte> bytes, std::function<void(Status)> done) override {
    writer_->append(file_, std::move(bytes), std::move(done));
  }

 private:
  std::shared_ptr<PosixDisk::Writer> writer_;
  std::shared_ptr<OpenFile> file_;
};

}  // namespace

PosixDisk::PosixDisk() : writer_(std::make_shared<Writer>()) {}
PosixDisk::~PosixDisk() { writer_->close(); }

Outcome<std::vector<std::byte>> PosixDisk::read(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (fd.get() < 0) return os_failure("cannot read", path);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return os_failure("cannot look at", path);
  if (!S_ISREG(info.st_mode)) return failure(ErrorKind::kInvalid, path + " is not a plain file");
  if (static_cast<std::uint64_t>(info.st_size) > kMaxFileBytes) {
    return failure(ErrorKind::kInvalid, path + " is larger than 1 GiB; it cannot be ours");
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(info.st_size));
  std::size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t got = ::read(fd.get(), bytes.data() + have, bytes.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return os_failure("cannot read", path);
    if (got == 0) break;
    have += static_cast<std::size_t>(got);
  }
  bytes.resize(have);
  return bytes;
}

Outcome<std::unique_ptr<DiskFile>> PosixDisk::open_append(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return os_failure("cannot open", path);
  auto file = std::make_shared<OpenFile>(fd, path);
  CONSORT_RETURN_IF_ERROR(sync_folder(path));
  return std::unique_ptr<DiskFile>(std::make_unique<AppendFile>(writer_, std::move(file)));
}

Status PosixDisk::replace(const std::string& path, std::span<const std::byte> bytes) {
  const std::string temporary = path + ".new";
  // One that a crash left behind is nobody's.
  if (::unlink(temporary.c_str()) != 0 && errno != ENOENT) return os_failure("cannot remove", temporary);
  {
    const Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (fd.get() < 0) return os_failure("cannot make", temporary);
    if (!write_all(fd.get(), bytes) || ::fsync(fd.get()) != 0) {
      const Error error = os_failure("cannot write", temporary);
      ::unlink(temporary.c_str());
      return error;
    }
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    const Error error = os_failure("cannot replace", path);
    ::unlink(temporary.c_str());
    return error;
  }
  return sync_folder(path);
}

}  // namespace consort::runtime::posix
