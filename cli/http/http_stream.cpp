#include "cli/http/http_stream.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <limits>

namespace consort::cli {

namespace {

using boost::system::error_code;
using tcp = boost::asio::ip::tcp;

HttpStream::Moved plain(ssize_t result, HttpStream::Then wait) {
  if (result > 0) return {HttpStream::Then::kDone, static_cast<std::size_t>(result)};
  if (result == 0) return {HttpStream::Then::kEnd, 0};
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return {wait, 0};
  return {HttpStream::Then::kFailed, 0};
}

}  // namespace

void FreeTlsSession::operator()(ssl_st* session) const { SSL_free(session); }

HttpStream::HttpStream(tcp::socket socket, TlsSession session)
    : socket_(std::move(socket)), session_(std::move(session)) {
  error_code ignored;
  socket_.native_non_blocking(true, ignored);
  if (session_) SSL_set_fd(session_.get(), socket_.native_handle());
}

HttpStream::Moved HttpStream::outcome(int result) {
  if (result > 0) return {Then::kDone, 0};
  switch (SSL_get_error(session_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return {Then::kWaitToRead, 0};
    case SSL_ERROR_WANT_WRITE:
      return {Then::kWaitToWrite, 0};
    case SSL_ERROR_ZERO_RETURN:
      return {Then::kEnd, 0};
    default:
      met_plain_http_ = ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_HTTP_REQUEST;
      return {Then::kFailed, 0};
  }
}

HttpStream::Moved HttpStream::handshake() {
  ERR_clear_error();
  return outcome(SSL_accept(session_.get()));
}

HttpStream::Moved HttpStream::read(std::span<char> into) {
  if (!session_) return plain(::recv(socket_.native_handle(), into.data(), into.size(), 0), Then::kWaitToRead);
  ERR_clear_error();
  std::size_t bytes = 0;
  Moved moved = outcome(SSL_read_ex(session_.get(), into.data(), into.size(), &bytes));
  moved.bytes = bytes;
  return moved;
}

HttpStream::Moved HttpStream::write(std::string_view text) {
  if (!session_) {
    return plain(::send(socket_.native_handle(), text.data(), text.size(), MSG_NOSIGNAL), Then::kWaitToWrite);
  }
  ERR_clear_error();
  std::size_t bytes = 0;
  Moved moved = outcome(SSL_write_ex(session_.get(), text.data(), text.size(), &bytes));
  moved.bytes = bytes;
  return moved;
}

bool HttpStream::holds_input() const { return session_ && SSL_has_pending(session_.get()) == 1; }

void HttpStream::finish() {
  if (session_ && SSL_is_init_finished(session_.get()) == 1) {
    ERR_clear_error();
    (void)SSL_shutdown(session_.get());
  }
  error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
}

void HttpStream::close() {
  error_code ignored;
  socket_.close(ignored);
}

}  // namespace consort::cli
