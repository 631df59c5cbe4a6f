// The real disk, spawner and pinning.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "runtime/pinning.hpp"
#include "runtime/posix/posix_clock.hpp"
#include "runtime/posix/posix_disk.hpp"
#include "runtime/posix/posix_spawner.hpp"
#include "support/test.hpp"

namespace consort::tests {
namespace {

using namespace runtime;
using namespace std::chrono_literals;

struct Folder {
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "consort-test-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string file(const std::string& name) const { return path + "/" + name; }
  std::string path;
};

std::vector<std::byte> bytes_of(std::string_view text) {
  std::vector<std::byte> bytes;
  for (const char c : text) bytes.push_back(static_cast<std::byte>(c));
  return bytes;
}
std::string text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST_CASE("the clock is monotonic and seeds differ") {
  const posix::PosixClock clock;
  const Instant first = clock.now();
  CHECK(clock.now() >= first);
  CHECK(clock.unix_ns() > 1'600'000'000'000'000'000);
  CHECK(posix::kernel_seed() != posix::kernel_seed());
}

TEST_CASE("synced appends land in order, in a file that only its owner may read") {
  Folder folder;
  posix::PosixDisk disk;
  auto file = disk.open_append(folder.file("log"));
  REQUIRE(file.ok());
  std::atomic<int> landed{0};
  for (int i = 0; i < 5; ++i) {
    file.value()->append_synced(bytes_of(std::to_string(i)), [&](Status status) {
      CHECK(status.ok());
      ++landed;
    });
  }
  for (int ms = 0; landed < 5 && ms < 10'000; ++ms) std::this_thread::sleep_for(1ms);
  CHECK(text_of(disk.read(folder.file("log")).value()) == "01234");
  struct stat info {};
  REQUIRE(::stat(folder.file("log").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  // Opened again, it goes on at the end.
  file = disk.open_append(folder.file("log"));
  std::atomic<bool> again{false};
  file.value()->append_synced(bytes_of("5"), [&](Status) { again = true; });
  for (int ms = 0; !again && ms < 10'000; ++ms) std::this_thread::sleep_for(1ms);
  CHECK(text_of(disk.read(folder.file("log")).value()) == "012345");
}

TEST_CASE("a disk that ends writes what it has accepted, and its files then refuse") {
  Folder folder;
  std::unique_ptr<DiskFile> file;
  std::atomic<int> landed{0};
  {
    posix::PosixDisk disk;
    file = std::move(disk.open_append(folder.file("log")).value());
    for (int i = 0; i < 20; ++i) file->append_synced(bytes_of("x"), [&](Status s) { landed += s.ok() ? 1 : 0; });
  }
  CHECK(landed == 20);
  CHECK(std::filesystem::file_size(folder.file("log")) == 20);
  ErrorKind kind{};
  file->append_synced(bytes_of("x"), [&](Status s) { kind = s.error().kind; });
  CHECK(kind == ErrorKind::kCancelled);
}

TEST_CASE("an append that the disk refuses is an error in words") {
  if (::access("/dev/full", W_OK) != 0) SKIP("there is no /dev/full here");
  posix::PosixDisk disk;
  auto file = disk.open_append("/dev/full");
  if (!file.ok()) SKIP("the folder of /dev/full cannot be synced: " + file.error().text);
  std::atomic<bool> heard{false};
  file.value()->append_synced(bytes_of("x"), [&](Status status) {
    CHECK_FALSE(status.ok());
    CHECK(status.error().text.find("/dev/full") != std::string::npos);
    heard = true;
  });
  for (int ms = 0; !heard && ms < 10'000; ++ms) std::this_thread::sleep_for(1ms);
  CHECK(heard);
}

TEST_CASE("replace leaves the old or the new content and no temporary file") {
  Folder folder;
  posix::PosixDisk disk;
  const std::string path = folder.file("key");
  std::ofstream(path + ".new") << "left behind by a crash";
  REQUIRE(disk.replace(path, bytes_of("one")).ok());
  REQUIRE(disk.replace(path, bytes_of("two")).ok());
  CHECK(text_of(disk.read(path).value()) == "two");
  CHECK_FALSE(std::filesystem::exists(path + ".new"));
  struct stat info {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  CHECK_FALSE(disk.replace(folder.file("no/such/folder"), bytes_of("x")).ok());
}

TEST_CASE("files that are missing, links or folders are refused by name") {
  Folder folder;
  posix::PosixDisk disk;
  const auto missing = disk.read(folder.file("nothing"));
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.error().kind == ErrorKind::kInvalid);
  CHECK(missing.error().text.find("nothing") != std::string::npos);
  std::ofstream(folder.file("real")) << "x";
  std::filesystem::create_symlink(folder.file("real"), folder.file("link"));
  CHECK_FALSE(disk.read(folder.file("link")).ok());
  CHECK_FALSE(disk.open_append(folder.file("link")).ok());
  CHECK_FALSE(disk.read(folder.path).ok());
}

// Starts a shell; waits for its exit through poll().
struct Shell {
  Shell() {
    spawner.on_exit([this](ProcessExit exit) { exits.push_back(std::move(exit)); });
  }
  ProcessId run(const std::string& script) { return spawner.start({"test", {"-c", script}}).value(); }
  void wait(std::size_t count) {
    for (int ms = 0; exits.size() < count && ms < 20'000; ++ms) {
      spawner.poll();
      std::this_thread::sleep_for(1ms);
    }
    REQUIRE(exits.size() == count);
  }
  posix::PosixSpawner spawner{"/bin/sh"};
  std::vector<ProcessExit> exits;
};

TEST_CASE("a spawner tells how each child ended, once") {
  Shell shell;
  const ProcessId seven = shell.run("exit 7");
  shell.wait(1);
  CHECK(shell.exits[0].process == seven);
  CHECK(shell.exits[0].description == "exit code 7");
  const ProcessId sleeper = shell.run("exec sleep 1000");
  CHECK_FALSE(shell.spawner.poll());
  shell.spawner.kill(sleeper);
  shell.wait(2);
  CHECK(shell.exits[1].description == "signal 9");
  const ProcessId stopped = shell.run("kill -STOP $$");
  std::this_thread::sleep_for(50ms);
  CHECK_FALSE(shell.spawner.poll());
  shell.spawner.kill(stopped);  // stopped or not
  shell.wait(3);
  CHECK(shell.exits[2].description == "signal 9");
  CHECK_FALSE(shell.spawner.poll());
}

TEST_CASE("a program that cannot be started is an error in words") {
  posix::PosixSpawner spawner("/no/such/program");
  const auto started = spawner.start({"garage", {}});
  REQUIRE_FALSE(started.ok());
  CHECK(started.error().text.find("garage") != std::string::npos);
}

TEST_CASE("children die with the spawner, and with the process that started them") {
  ProcessId child;
  {
    Shell shell;
    child = shell.run("exec sleep 1000");
    CHECK(::kill(static_cast<pid_t>(child), 0) == 0);
  }
  CHECK(::kill(static_cast<pid_t>(child), 0) != 0);
  // A process of its own starts a child and is killed; the child must follow.
  Folder folder;
  const pid_t middle = ::fork();
  if (middle == 0) {
    posix::PosixSpawner spawner("/bin/sh");
    const auto grandchild = spawner.start({"test", {"-c", "exec sleep 1000"}});
    if (grandchild.ok()) {
      std::ofstream(folder.file("pid.part")) << grandchild.value();
      std::filesystem::rename(folder.file("pid.part"), folder.file("pid"));
    }
    ::pause();
    ::_exit(0);
  }
  for (int ms = 0; !std::filesystem::exists(folder.file("pid")) && ms < 10'000; ++ms) std::this_thread::sleep_for(1ms);
  pid_t grandchild = 0;
  std::ifstream(folder.file("pid")) >> grandchild;
  REQUIRE(grandchild > 0);
  CHECK(::kill(grandchild, 0) == 0);
  ::kill(middle, SIGKILL);
  ::waitpid(middle, nullptr, 0);
  // Whoever adopts it may take a moment to reap it; a zombie is dead too.
  const auto alive = [&] {
    std::string stat;
    std::getline(std::ifstream("/proc/" + std::to_string(grandchild) + "/stat"), stat);
    return !stat.empty() && stat.find(") Z") == std::string::npos;
  };
  for (int ms = 0; alive() && ms < 10'000; ++ms) std::this_thread::sleep_for(1ms);
  CHECK_FALSE(alive());
}

TEST_CASE("this machine has cores and memory, and a thread can be kept on one of its cores") {
  const Machine& machine = this_machine();
  REQUIRE_FALSE(machine.cores.empty());
  CHECK(machine.memory_bytes > (std::uint64_t{64} << 20));
  CHECK(describe(machine).find("usable") != std::string::npos);
  MESSAGE(describe(machine));
  const int core = machine.cores.back();
  int ran_on = -1;
  bool ok = false;
  std::thread([&] {
    ok = pin_this_thread(std::vector<int>{core}).ok();
    ran_on = ::sched_getcpu();
  }).join();
  CHECK(ok);
  CHECK(ran_on == core);
  const Status wrong = pin_this_thread(std::vector<int>{100'000});
  REQUIRE_FALSE(wrong.ok());
  CHECK(wrong.error().text == "this machine has no core 100000");
  CHECK(pin_this_thread({}).ok());
}

}  // namespace
}  // namespace consort::tests
