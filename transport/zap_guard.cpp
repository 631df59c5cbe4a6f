// SPDX-License-Identifier: Apache-2.0
#include "transport/zap_guard.hpp"

#include <array>
#include <cstring>
#include <utility>

#include "runtime/check.hpp"
#include "transport/zmq_socket-inl.hpp"

namespace consort::transport {

namespace {

constexpr const char* kZapAddress = "inproc://zeromq.zap.01";
constexpr std::size_t kKeyBytes = 32;

ZmqPart part_of(const std::string& text) { return ZmqPart(std::as_bytes(std::span(text))); }

}  // namespace

ZapGuard::ZapGuard(void* context) : socket_(std::make_unique<ZmqSocket>(context, ZMQ_ROUTER)) {
  CONSORT_CHECK(zmq_bind(socket_->get(), kZapAddress) == 0, zmq_strerror(errno));
}
ZapGuard::~ZapGuard() = default;

void ZapGuard::set_allowed(std::vector<AllowedKey> allowed) {
  allowed_.clear();
  for (auto& key : allowed) {
    auto text = key.public_key;
    allowed_[std::move(text)] = std::move(key);
  }
}

const AllowedKey* ZapGuard::find(const std::string& public_key) const {
  const auto it = allowed_.find(public_key);
  return it == allowed_.end() ? nullptr : &it->second;
}

// RFC 27: [routing id, empty,] version, request id, domain, address, routing id of the peer, mechanism, credentials.
bool ZapGuard::poll() {
  ZmqParts parts;
  bool did = false;
  while (socket_->receive(parts)) {
    did = true;
    if (parts.size() < 8) continue;
    std::string user;
    if (parts.size() == 9 && parts[2].text() == "1.0" && parts[7].text() == "CURVE" &&
        parts[8].bytes().size() == kKeyBytes) {
      std::array<std::uint8_t, kKeyBytes> key{};
      std::memcpy(key.data(), parts[8].bytes().data(), key.size());
      std::array<char, kKeyTextBytes + 1> text{};
      zmq_z85_encode(text.data(), key.data(), key.size());
      if (find(text.data()) != nullptr) user = text.data();
    }
    if (user.empty()) ++refused_;
    ZmqParts reply;
    reply.push_back(std::move(parts[0]));
    reply.push_back(std::move(parts[1]));
    reply.push_back(part_of("1.0"));
    reply.push_back(std::move(parts[3]));
    reply.push_back(part_of(user.empty() ? "400" : "200"));
    reply.push_back(part_of(user.empty() ? "the key is not on the allow-list" : "OK"));
    reply.push_back(part_of(user));
    reply.push_back(part_of(""));
    (void)socket_->send(reply);  // ZeroMQ's own side is gone: so is the connection
  }
  return did;
}

}  // namespace consort::transport
