// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/check.hpp"
#include "transport/zmq_socket-inl.hpp"

namespace consort::transport {

namespace {

constexpr std::size_t kMaxParts = 16;     // ZAP has the longest messages: 7 parts
constexpr std::size_t kCopyBelow = 1024;  // a copy of this size costs less than keeping ZeroMQ's block

// What ZeroMQ's thread gives back. The flag is the order between the two threads in terms of our own program.
struct Lent {
  std::shared_ptr<void> owner;
  std::atomic<bool> lent{false};
};

void give_back(void*, void* hint) {
  const std::unique_ptr<Lent> lent(static_cast<Lent*>(hint));
  (void)lent->lent.load(std::memory_order_acquire);
}

}  // namespace

ZmqPart::ZmqPart(std::span<const std::byte> bytes) : message_(std::make_unique<zmq_msg_t>()) {
  CONSORT_CHECK(zmq_msg_init_size(message_.get(), bytes.size()) == 0, bytes.size());
  if (!bytes.empty()) std::memcpy(zmq_msg_data(message_.get()), bytes.data(), bytes.size());
}

ZmqPart::ZmqPart(std::span<const std::byte> bytes, std::shared_ptr<void> owner)
    : message_(std::make_unique<zmq_msg_t>()) {
  auto lent = std::make_unique<Lent>();
  lent->owner = std::move(owner);
  lent->lent.store(true, std::memory_order_release);
  CONSORT_CHECK(
      zmq_msg_init_data(message_.get(), const_cast<std::byte*>(bytes.data()), bytes.size(), give_back, lent.get()) == 0,
      bytes.size());
  (void)lent.release();
}

std::string ZmqPart::text() const {
  const auto view = bytes();
  return {reinterpret_cast<const char*>(view.data()), view.size()};
}

std::string ZmqPart::property(const char* name) const {
  const char* value = zmq_msg_gets(message_.get(), name);
  return value == nullptr ? std::string() : std::string(value);
}

runtime::Buffer ZmqPart::to_buffer(ZmqPart part) {
  const auto bytes = part.bytes();
  if (bytes.empty()) return {};
  if (bytes.size() < kCopyBelow) return runtime::Buffer::copy_of(bytes);
  auto kept = std::make_shared<ZmqPart>(std::move(part));
  return runtime::Buffer::adopt(bytes, [kept] {});
}

ZmqSocket::ZmqSocket(void* context, int type) : socket_(zmq_socket(context, type)) {
  CONSORT_CHECK(socket_ != nullptr, zmq_strerror(errno));
  set(ZMQ_LINGER, 0);
}

void ZmqSocket::set(int option, int value) {
  CONSORT_CHECK(zmq_setsockopt(socket_, option, &value, sizeof value) == 0, option, value, zmq_strerror(errno));
}
void ZmqSocket::set_long(int option, std::int64_t value) {
  CONSORT_CHECK(zmq_setsockopt(socket_, option, &value, sizeof value) == 0, option, value, zmq_strerror(errno));
}
void ZmqSocket::set(int option, const std::string& value) {
  CONSORT_CHECK(zmq_setsockopt(socket_, option, value.data(), value.size()) == 0, option, zmq_strerror(errno));
}

std::string ZmqSocket::text(int option) const {
  std::array<char, 512> value{};
  std::size_t size = value.size();
  if (zmq_getsockopt(socket_, option, value.data(), &size) != 0) return {};
  return value.data();
}

int ZmqSocket::fd() const {
  int fd = -1;
  std::size_t size = sizeof fd;
  CONSORT_CHECK(zmq_getsockopt(socket_, ZMQ_FD, &fd, &size) == 0, zmq_strerror(errno));
  return fd;
}

bool ZmqSocket::readable() const {
  int events = 0;
  std::size_t size = sizeof events;
  return zmq_getsockopt(socket_, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN) != 0;
}

bool ZmqSocket::receive(ZmqParts& parts) {
  parts.clear();
  bool more = true;
  while (more) {
    ZmqPart part;
    if (zmq_msg_recv(part.get(), socket_, ZMQ_DONTWAIT) < 0) {
      // The parts of a message arrive together: only before the first one there may be nothing.
      parts.clear();
      return false;
    }
    more = zmq_msg_more(part.get()) != 0;
    if (parts.size() < kMaxParts) parts.push_back(std::move(part));
  }
  return true;
}

int ZmqSocket::send(ZmqParts& parts) {
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const int flags = ZMQ_DONTWAIT | (i + 1 < parts.size() ? ZMQ_SNDMORE : 0);
    if (zmq_msg_send(parts[i].get(), socket_, flags) >= 0) continue;
    // Only the first part can be refused; the others belong to a message that was taken.
    CONSORT_CHECK(i == 0 || errno == EHOSTUNREACH, i, zmq_strerror(errno));
    return errno;
  }
  return 0;
}

}  // namespace consort::transport
