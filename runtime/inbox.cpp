#include "runtime/inbox.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "runtime/check.hpp"

namespace consort::runtime {

Inbox::Inbox() : head_(new Node), tail_(head_.load()) {}

Inbox::~Inbox() {
  while (tail_ != nullptr) {
    Node* next = tail_->next.load(std::memory_order_acquire);
    delete tail_;
    tail_ = next;
  }
  if (const int fd = wake_fd_.load(); fd >= 0) ::close(fd);
}

void Inbox::push(PostedTurn turn) {
  if (closed_.load(std::memory_order_acquire)) return;
  const auto queued = queued_.fetch_add(1, std::memory_order_relaxed);
  CONSORT_CHECK(queued < kMaxQueued, queued);
  Node* node = new Node;
  node->turn = std::move(turn);
  // The exchange and the load of sleeping_ are sequentially consistent, as are the store of sleeping_ and the load of
  // head_ on the other side: either this thread sees the sleeper or the sleeper sees this node.
  Node* before = head_.exchange(node);
  before->next.store(node, std::memory_order_release);
  if (sleeping_.load()) wake();
}

void Inbox::wake() {
  const int fd = wake_fd_.load(std::memory_order_acquire);
  if (fd < 0) return;
  const std::uint64_t one = 1;
  // A full counter has woken the loop already; nothing else can fail here.
  [[maybe_unused]] const auto written = ::write(fd, &one, sizeof one);
}

std::optional<PostedTurn> Inbox::pop() {
  Node* next = tail_->next.load(std::memory_order_acquire);
  if (next == nullptr) return std::nullopt;
  PostedTurn turn = std::move(next->turn);
  delete tail_;
  tail_ = next;
  queued_.fetch_sub(1, std::memory_order_relaxed);
  return turn;
}

bool Inbox::empty() const { return head_.load() == tail_; }

Status Inbox::open_wake_fd() {
  if (wake_fd_.load() >= 0) return done();
  const int fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) return failure(ErrorKind::kInternal, std::string("no eventfd for a loop: ") + std::strerror(errno));
  wake_fd_.store(fd, std::memory_order_release);
  return done();
}

void Inbox::clear_wake() {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(wake_fd(), &count, sizeof count);
}

void Inbox::close() {
  closed_.store(true, std::memory_order_release);
  while (pop()) {
  }
}

void Poster::post(ActorId actor, std::function<void()> turn) const {
  CONSORT_CHECK(inbox_ != nullptr);
  inbox_->push({actor, std::move(turn)});
}

void Poster::post(std::function<void()> turn) const {
  CONSORT_CHECK(inbox_ != nullptr);
  inbox_->push({std::nullopt, std::move(turn)});
}

}  // namespace consort::runtime
