#include "runtime/posix/sleeper.hpp"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>

#include "runtime/check.hpp"

namespace consort::runtime::posix {
namespace {

void add(int epoll_fd, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  // EEXIST: two sources share a descriptor.
  const int result = ::epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
  CONSORT_CHECK(result == 0 || errno == EEXIST, fd, errno);
}

int wait(int epoll_fd, std::array<epoll_event, 16>& events, Duration longest) {
  const auto count = longest.count();
  const timespec limit{static_cast<time_t>(count / 1'000'000'000), static_cast<long>(count % 1'000'000'000)};
  const int size = static_cast<int>(events.size());
  const int ready = ::epoll_pwait2(epoll_fd, events.data(), size, &limit, nullptr);
  if (ready >= 0 || errno != ENOSYS) return ready;
  // Kernels before 5.11 count in milliseconds; rounded up, so that a timer is due when the loop wakes.
  return ::epoll_wait(epoll_fd, events.data(), size, static_cast<int>((count + 999'999) / 1'000'000));
}

}  // namespace

Sleeper::Sleeper(Inbox& inbox) : inbox_(inbox), epoll_fd_(::epoll_create1(EPOLL_CLOEXEC)) {
  CONSORT_CHECK(epoll_fd_ >= 0, errno);
  const Status opened = inbox_.open_wake_fd();
  CONSORT_CHECK(opened.ok());
  add(epoll_fd_, inbox_.wake_fd());
}

Sleeper::~Sleeper() { ::close(epoll_fd_); }

void Sleeper::follow(const std::vector<EventSource*>& sources) {
  std::vector<int> wanted;
  for (const EventSource* source : sources) {
    if (const int fd = source->fd(); fd >= 0) wanted.push_back(fd);
  }
  for (const int fd : followed_) {
    // A descriptor that was closed has left epoll by itself.
    if (std::find(wanted.begin(), wanted.end(), fd) == wanted.end()) ::epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);
  }
  // All of them: the number of a closed descriptor may have been given to a new one, which epoll does not know yet.
  for (const int fd : wanted) add(epoll_fd_, fd);
  followed_ = std::move(wanted);
}

void Sleeper::sleep(const std::vector<EventSource*>& sources, std::uint64_t version, Duration longest) {
  if (version_ != version) {
    follow(sources);
    version_ = version;
  }
  inbox_.prepare_sleep();
  bool idle = inbox_.empty();
  for (std::size_t i = 0; idle && i < sources.size(); ++i) idle = sources[i]->arm();
  if (idle) {
    std::array<epoll_event, 16> events;
    const int ready = wait(epoll_fd_, events, longest);
    CONSORT_CHECK(ready >= 0 || errno == EINTR, errno);
    for (int i = 0; i < ready; ++i) {
      if (events[static_cast<std::size_t>(i)].data.fd == inbox_.wake_fd()) inbox_.clear_wake();
    }
  }
  inbox_.end_sleep();
}

}  // namespace consort::runtime::posix
