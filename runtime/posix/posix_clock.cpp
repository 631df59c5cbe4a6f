#include "runtime/posix/posix_clock.hpp"

#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <ctime>

#include "runtime/check.hpp"

namespace consort::runtime::posix {
namespace {

std::int64_t read_ns(clockid_t clock) {
  timespec time{};
  const int result = ::clock_gettime(clock, &time);
  CONSORT_CHECK(result == 0, errno);
  return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

Instant PosixClock::now() const { return Instant(Duration(read_ns(CLOCK_MONOTONIC))); }
std::int64_t PosixClock::unix_ns() const { return read_ns(CLOCK_REALTIME); }

std::uint64_t kernel_seed() {
  std::uint64_t seed = 0;
  ssize_t got;
  do {
    got = ::getrandom(&seed, sizeof seed, 0);
  } while (got < 0 && errno == EINTR);
  CONSORT_CHECK(got == static_cast<ssize_t>(sizeof seed), errno);
  return seed;
}

void ExitTerminator::terminate(std::string_view why) {
  std::fprintf(stderr, "this process ends: %.*s\n", static_cast<int>(why.size()), why.data());
  std::fflush(stderr);
  ::_exit(1);
}

}  // namespace consort::runtime::posix
