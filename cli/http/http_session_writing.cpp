// Session: bytes out, and how a connection ends.
#include <sys/socket.h>

#include <boost/asio/write.hpp>
#include <cstdio>

#include "cli/http/http_session.hpp"
#include "cli/http/http_text.hpp"

namespace consort::cli {

namespace {

constexpr std::size_t kDrainBytes = 1u << 20;  // of a refused body, read so that its sender reads why

}  // namespace

void Session::send(std::string_view text) {
  if (closed_) return;
  pending_ += text;
  if (working_ && pending_.size() > server_.options.limits.pending_bytes) return peer_gone();  // it does not read
  if (!is_writing_) write_next();
}

void Session::write_next() {
  if (pending_.empty()) return answer_ends_ ? end_answer() : void();
  writing_ = std::exchange(pending_, {});
  is_writing_ = true;
  stream_.expires_after(server_.options.times.write);
  asio::async_write(stream_, asio::buffer(writing_),
                    [self = shared_from_this()](error_code error, std::size_t) { self->on_written(error); });
}

void Session::on_written(error_code error) {
  is_writing_ = false;
  if (closed_) return;
  if (error) return peer_gone();
  write_next();
}

void Session::end_answer() {
  timer_.cancel();
  if (keep_alive_ && body_is_read_) return wait_request();
  // A client that is still sending would lose the answer to a reset: it is read on for a moment.
  error_code ignored;
  stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
  stream_.expires_after(server_.options.times.drain);
  enter_silent();
  drain(0);
}

void Session::drain(std::size_t taken) {
  buffer_.clear();
  stream_.async_read_some(buffer_.prepare(4096),
                          [self = shared_from_this(), taken](error_code error, std::size_t bytes) {
                            if (error || taken + bytes > kDrainBytes) return self->close();
                            self->drain(taken + bytes);
                          });
}

void Session::keep_alive_later() {
  timer_.expires_after(server_.options.times.keep_alive);
  timer_.async_wait([weak = weak_from_this(), work = work_](error_code error) {
    const auto self = weak.lock();
    if (error || !self || self->closed_ || !self->working_ || work != self->work_) return;
    if (!self->is_writing_) self->send(self->chunked_ ? chunk(kKeepAlive) : std::string(kKeepAlive));
    self->keep_alive_later();
  });
}

// While the model works: notices that the client has gone.
void Session::watch_peer() {
  if (watching_) return;
  watching_ = true;
  stream_.socket().async_wait(tcp::socket::wait_read, [weak = weak_from_this()](error_code error) {
    const auto self = weak.lock();
    if (!self) return;
    self->watching_ = false;
    if (error || self->closed_ || !self->working_) return;
    char byte = 0;
    const ssize_t got = ::recv(self->stream_.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return self->peer_gone();
    if (got < 0) self->watch_peer();  // else the next request is there already, and the end cannot be seen behind it
  });
}

void Session::begin_work() {
  working_ = true;
  server_.working.insert(shared_from_this());
}

// Whether there was work. Whoever calls holds the session.
bool Session::end_work() {
  if (!std::exchange(working_, false)) return false;
  server_.working.erase(shared_from_this());
  return true;
}

void Session::peer_gone() {
  if (end_work()) {
    server_.port->cancel(ticket_);
    log(499);  // as nginx logs a client that went away
  }
  close();
}

void Session::close() {
  if (std::exchange(closed_, true)) return;
  if (end_work()) server_.port->cancel(ticket_);
  timer_.cancel();
  leave_silent();
  release_body();
  error_code ignored;
  stream_.socket().close(ignored);
}

void Session::log(int status) {
  if (is_for_watching(place_.route) && status == 200) return;
  const auto took = std::chrono::steady_clock::now() - begun_;
  const actors::AnswerUsage usage = writer_ ? writer_->usage() : actors::AnswerUsage{};
  std::fprintf(
      stderr,
      R"({"request_id":"%s","key":"%s","path":"%.*s","status":%d,"ms":%.1f,"prompt_tokens":%u,"completion_tokens":%u})"
      "\n",
      request_id_.c_str(), key_name_.c_str(), static_cast<int>(place_.name.size()), place_.name.data(), status,
      std::chrono::duration<double, std::milli>(took).count(), usage.prompt_tokens, usage.completion_tokens);
}

}  // namespace consort::cli
