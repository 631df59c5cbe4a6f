// ZmqSocket and ZmqPart: libzmq's sockets and messages with owners. For zmq_*.cpp only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <zmq.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/buffer.hpp"

namespace consort::transport {

class ZmqPart {
 public:
  ZmqPart() : message_(std::make_unique<zmq_msg_t>()) { zmq_msg_init(message_.get()); }
  explicit ZmqPart(std::span<const std::byte> bytes);
  // Bytes that live until the last thread of ZeroMQ has let go of `owner`.
  ZmqPart(std::span<const std::byte> bytes, std::shared_ptr<void> owner);
  ~ZmqPart() {
    if (message_ != nullptr) zmq_msg_close(message_.get());
  }
  ZmqPart(ZmqPart&&) = default;
  ZmqPart& operator=(ZmqPart&& other) noexcept {
    std::swap(message_, other.message_);
    return *this;
  }

  zmq_msg_t* get() const { return message_.get(); }
  std::span<std::byte> bytes() const {
    return {static_cast<std::byte*>(zmq_msg_data(message_.get())), zmq_msg_size(message_.get())};
  }
  std::string text() const;
  std::string property(const char* name) const;  // "" where the message has none
  // As a buffer: small parts are copied, others kept.
  static runtime::Buffer to_buffer(ZmqPart part);

 private:
  std::unique_ptr<zmq_msg_t> message_;
};
using ZmqParts = std::vector<ZmqPart>;

class ZmqSocket {
 public:
  ZmqSocket(void* context, int type);  // LINGER 0
  ~ZmqSocket() { zmq_close(socket_); }
  ZmqSocket(const ZmqSocket&) = delete;
  ZmqSocket& operator=(const ZmqSocket&) = delete;

  void* get() const { return socket_; }
  void set(int option, int value);
  void set(int option, const std::string& value);
  void set_long(int option, std::int64_t value);
  std::string text(int option) const;
  int fd() const;
  // Reading the events also clears the edge of fd(): to be asked after every send, receive and before every sleep.
  bool readable() const;
  // One whole message, at most kMaxParts of it kept; false: none is there.
  bool receive(ZmqParts& parts);
  // All parts or none; the value of errno, 0 for sent.
  int send(ZmqParts& parts);

 private:
  void* socket_;
};

}  // namespace consort::transport
