// ZapGuard: answers ZeroMQ's question which key may connect, without a thread of its own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "transport/curve_keys.hpp"

namespace consort::transport {

class ZmqSocket;

// Bound to its context before any server socket is. A connection waits for the answer until its handshake times out.
class ZapGuard {
 public:
  explicit ZapGuard(void* context);
  ~ZapGuard();

  void set_allowed(std::vector<AllowedKey> allowed);
  // Who a key is; null: nobody. The User-Id that ZeroMQ attaches to each message is the key's text.
  const AllowedKey* find(const std::string& public_key) const;
  bool poll();  // answers what was asked
  ZmqSocket& socket() { return *socket_; }
  std::uint64_t refused() const { return refused_; }

 private:
  std::unique_ptr<ZmqSocket> socket_;
  std::map<std::string, AllowedKey> allowed_;
  std::uint64_t refused_ = 0;
};

}  // namespace consort::transport
