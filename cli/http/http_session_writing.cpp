// Session: bytes out, and how a connection ends.
#include <cstdio>

#include "cli/http/http_session.hpp"
#include "cli/http/http_text.hpp"

namespace consort::cli {

void Session::send(std::string_view text) {
  if (closed_) return;
  pending_ += text;
  if (working_ && pending_.size() > server_.options.limits.pending_bytes) return peer_gone();  // it does not read
  if (!is_writing_) write_next();
}

void Session::write_next() {
  while (!closed_) {
    if (written_bytes_ == writing_.size()) {
      write_deadline_.expires_at(asio::steady_timer::time_point::max());
      writing_ = std::exchange(pending_, {});
      written_bytes_ = 0;
      if (writing_.empty()) return answer_ends_ ? end_answer() : void();
    }
    const HttpStream::Moved moved = stream_.write(std::string_view(writing_).substr(written_bytes_));
    if (moved.then == HttpStream::Then::kDone) {
      written_bytes_ += moved.bytes;
      continue;
    }
    if (moved.then != HttpStream::Then::kWaitToWrite && moved.then != HttpStream::Then::kWaitToRead) return peer_gone();
    // The time runs from the first wait of a piece: who takes it byte by byte does not get more.
    if (write_deadline_.expiry() == asio::steady_timer::time_point::max()) {
      write_deadline_.expires_after(server_.options.times.write);
      write_deadline_.async_wait([weak = weak_from_this()](error_code error) {
        const auto self = weak.lock();
        if (error || !self || self->write_deadline_.expiry() > asio::steady_timer::clock_type::now()) return;
        self->peer_gone();
      });
    }
    is_writing_ = true;
    return stream_.when(moved.then, [self = shared_from_this()](error_code error) {
      self->is_writing_ = false;
      error ? self->peer_gone() : self->write_next();
    });
  }
}

void Session::end_answer() {
  timer_.cancel();
  if (keep_alive_ && body_is_read_) return wait_request();
  // A client that is still sending would lose the answer to a reset: it is read on for a moment.
  stream_.finish();
  enter(Phase::kDrain, server_.options.times.drain);
  enter_silent();
  read_later();
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

// While the model works: notices that the client has gone. Where the next request is there already, its end cannot be
// seen behind it, and reading on would let a client that asks without end fill the memory.
void Session::watch_peer() {
  if (!reader_.holds_bytes()) read_later();
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
  deadline_.cancel();
  write_deadline_.cancel();
  leave_silent();
  release_body();
  stream_.close();
}

void Session::log(int status) {
  if (is_for_watching(place_.route) && status == 200) return;
  const auto took = server_.clock.now() - begun_;
  const actors::AnswerUsage usage = writer_ ? writer_->usage() : actors::AnswerUsage{};
  std::fprintf(
      stderr,
      R"({"request_id":"%s","key":"%s","path":"%.*s","status":%d,"ms":%.1f,"prompt_tokens":%u,"completion_tokens":%u})"
      "\n",
      request_id_.c_str(), payer_.key == kNoKey ? "" : payer_.key.c_str(), static_cast<int>(place_.name.size()),
      place_.name.data(), status, std::chrono::duration<double, std::milli>(took).count(), usage.prompt_tokens,
      usage.completion_tokens);
}

}  // namespace consort::cli
