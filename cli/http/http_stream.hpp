// HttpStream: the bytes of one connection, plain or through TLS. Never waits: says what to wait for.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

struct ssl_st;

namespace consort::cli {

struct FreeTlsSession {
  void operator()(ssl_st* session) const;
};
using TlsSession = std::unique_ptr<ssl_st, FreeTlsSession>;

class HttpStream {
 public:
  enum class Then : std::uint8_t {
    kDone,
    kWaitToRead,   // call again when the socket is readable
    kWaitToWrite,  // call again when it is writable
    kEnd,          // nothing more comes
    kFailed,
  };
  struct Moved {
    Then then = Then::kFailed;
    std::size_t bytes = 0;  // with kDone
  };

  // A null session: plain.
  HttpStream(boost::asio::ip::tcp::socket socket, TlsSession session);

  bool is_tls() const { return session_ != nullptr; }
  Moved handshake();
  // After a handshake that failed: did the client speak HTTP without TLS?
  bool met_plain_http() const { return met_plain_http_; }
  // What follows is plain, so that such a client can be told.
  void forsake_tls() { session_.reset(); }

  Moved read(std::span<char> into);
  // As much as the socket takes. A call that is to be repeated must be repeated with the same bytes.
  Moved write(std::string_view text);
  // Bytes that read() would give though the socket is not readable.
  bool holds_input() const;
  template <class Handler>
  void when(Then then, Handler handler) {
    using boost::asio::ip::tcp;
    socket_.async_wait(then == Then::kWaitToWrite ? tcp::socket::wait_write : tcp::socket::wait_read,
                       std::move(handler));
  }
  // Says that nothing more is sent.
  void finish();
  void close();

 private:
  Moved outcome(int result);

  boost::asio::ip::tcp::socket socket_;
  TlsSession session_;
  bool met_plain_http_ = false;
};

}  // namespace consort::cli
