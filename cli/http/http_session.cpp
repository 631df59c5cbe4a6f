// Session: from the first byte of a request to its last.
#include "cli/http/http_session.hpp"

#include <boost/asio/post.hpp>
#include <boost/beast/core/string.hpp>

#include "cli/http/entrance.hpp"
#include "cli/http/http_text.hpp"

namespace consort::cli {

namespace {

constexpr std::size_t kDrainBytes = 1u << 20;  // of a refused body, read so that its sender reads why

}  // namespace

Session::Session(HttpServer::State& server, HttpStream stream)
    : server_(server),
      stream_(std::move(stream)),
      reader_(server.options.limits.header_bytes, server.options.limits.body_bytes),
      deadline_(server.io),
      write_deadline_(server.io),
      timer_(server.io) {
  write_deadline_.expires_at(asio::steady_timer::time_point::max());
  ++server_.connections;
}

Session::~Session() {
  leave_silent();
  release_body();
  --server_.connections;
}

void Session::enter_silent() {
  if (silent_) return;
  server_.silent.push_back(weak_from_this());
  silent_ = std::prev(server_.silent.end());
}

void Session::leave_silent() {
  if (!silent_) return;
  server_.silent.erase(*silent_);
  silent_.reset();
}

void Session::release_body() { server_.bodies_bytes -= std::exchange(body_reserved_, 0); }

// Zero: the phase lasts as long as it does.
void Session::enter(Phase phase, std::chrono::milliseconds deadline) {
  phase_ = phase;
  if (deadline.count() == 0) {
    deadline_.expires_at(asio::steady_timer::time_point::max());  // not cancel(): one may be on its way
    return;
  }
  deadline_.expires_after(deadline);
  deadline_.async_wait([weak = weak_from_this()](error_code error) {
    const auto self = weak.lock();
    // One that was set anew while this one was on its way does not count.
    if (error || !self || self->deadline_.expiry() > asio::steady_timer::clock_type::now()) return;
    self->close();
  });
}

void Session::start() {
  if (!stream_.is_tls()) return wait_request();
  enter_silent();
  enter(Phase::kHandshake, server_.options.times.handshake);
  shake_hands();
}

void Session::shake_hands() {
  if (closed_) return;
  const HttpStream::Moved moved = stream_.handshake();
  switch (moved.then) {
    case HttpStream::Then::kDone:
      return wait_request();
    case HttpStream::Then::kWaitToRead:
    case HttpStream::Then::kWaitToWrite:
      return stream_.when(
          moved.then, [self = shared_from_this()](error_code error) { error ? self->close() : self->shake_hands(); });
    default:
      if (!stream_.met_plain_http()) return close();
      stream_.forsake_tls();
      wait_request();
      leave_silent();
      enter(Phase::kAnswer, {});
      keep_alive_ = false;
      return refuse({400, "invalid_request_error", "https_needed", "", "this port speaks TLS: use https://"});
  }
}

void Session::wait_request() {
  if (closed_) return;
  enter_silent();
  reader_.next();
  request_id_ = "req_" + hex(server_.rng.next());
  place_ = {};
  payer_ = {};
  keep_alive_ = chunked_ = true;
  body_is_read_ = head_is_sent_ = answer_ends_ = false;
  call_.reset();
  writer_.reset();
  sink_.reset();
  enter(Phase::kIdle, server_.options.times.idle);
  if (!reader_.holds_bytes()) return read_later();
  // In a turn of its own: a client that sent a thousand requests at once neither fills the stack nor holds up others.
  asio::post(server_.io, [self = shared_from_this()] { self->on_bytes({}); });
}

void Session::read_later() {
  if (closed_ || is_reading_) return;
  is_reading_ = true;
  auto next = [self = shared_from_this()](error_code error) {
    self->is_reading_ = false;
    error ? self->on_end() : self->read_now();
  };
  if (stream_.holds_input()) {
    asio::post(server_.io, [next = std::move(next)]() mutable { next({}); });
  } else {
    stream_.when(HttpStream::Then::kWaitToRead, std::move(next));
  }
}

void Session::read_now() {
  if (closed_) return;
  const HttpStream::Moved moved = stream_.read(server_.scratch);
  switch (moved.then) {
    case HttpStream::Then::kDone:
      return on_bytes({server_.scratch.data(), moved.bytes});
    case HttpStream::Then::kWaitToRead:
      return read_later();
    case HttpStream::Then::kWaitToWrite:
      is_reading_ = true;
      return stream_.when(moved.then, [self = shared_from_this()](error_code error) {
        self->is_reading_ = false;
        error ? self->on_end() : self->read_now();
      });
    default:
      return on_end();
  }
}

// The client sends nothing more.
void Session::on_end() {
  if (phase_ != Phase::kAnswer) return close();
  if (working_) peer_gone();  // else what is being written finds out
}

void Session::on_bytes(std::string_view bytes) {
  if (closed_) return;
  if (phase_ == Phase::kDrain) {
    drained_bytes_ += bytes.size();
    return drained_bytes_ > kDrainBytes ? close() : read_later();
  }
  reader_.add(bytes);
  // While an answer is made, what comes is the next request: it waits, and nothing more is read behind it, so that the
  // client's end is not seen then.
  if (phase_ == Phase::kAnswer) return;
  if (phase_ == Phase::kIdle) {
    begun_ = server_.clock.now();
    enter(Phase::kHeader, server_.options.times.header);
  }
  advance();
}

void Session::advance() {
  switch (reader_.step()) {
    case RequestReader::Step::kNeedsBytes:
      return read_later();
    case RequestReader::Step::kHeader:
      return on_header();
    case RequestReader::Step::kWhole:
      body_is_read_ = true;
      enter(Phase::kAnswer, {});
      return dispatch();
    case RequestReader::Step::kWrong:
      return on_bad_read(reader_.error());
  }
}

void Session::on_bad_read(error_code error) {
  leave_silent();
  enter(Phase::kAnswer, {});
  keep_alive_ = false;
  const auto bad = [](int status, std::string code, std::string message) {
    return Refusal{status, "invalid_request_error", std::move(code), "", std::move(message)};
  };
  const HttpLimits& limits = server_.options.limits;
  if (error == http::error::header_limit) {
    return refuse(
        bad(431, "header_too_large", "the header is larger than " + std::to_string(limits.header_bytes) + " bytes"));
  }
  if (error == http::error::body_limit) {
    return refuse(
        bad(413, "body_too_large", "the body is larger than " + std::to_string(limits.body_bytes) + " bytes"));
  }
  refuse(bad(400, "bad_request", "this is not HTTP/1.1: " + error.message()));
}

void Session::on_header() {
  leave_silent();
  const auto& request = reader_.request();
  keep_alive_ = reader_.keeps_alive();
  chunked_ = request.version() >= 11;
  body_is_read_ = reader_.is_whole();
  place_ = place_of(path_of({request.target().data(), request.target().size()}));
  if (const auto refused = may_enter()) {
    enter(Phase::kAnswer, {});
    if (!body_is_read_) keep_alive_ = false;
    if (refused->status == 401) return refuse(*refused, {{"WWW-Authenticate", "Bearer"}});
    if (refused->status == 405) return refuse(*refused, {{"Allow", place_.is_post ? "POST" : "GET, HEAD"}});
    return refuse(*refused);
  }
  if (place_.is_post) {
    if (const auto over = server_.metering->look(payer_)) {
      enter(Phase::kAnswer, {});
      if (!body_is_read_) keep_alive_ = false;
      return refuse_quota(*over);
    }
  }
  if (body_is_read_) return advance();
  read_body();
}

// What the header alone can say.
std::optional<Refusal> Session::may_enter() {
  Entrance entrance{server_.keys, server_.options.host};
  return entrance.look(reader_.request(), place_, payer_);
}

void Session::read_body() {
  const auto length = reader_.content_length();
  body_reserved_ = static_cast<std::size_t>(length ? *length : server_.options.limits.body_bytes);
  server_.bodies_bytes += body_reserved_;
  if (server_.bodies_bytes > server_.options.limits.bodies_bytes) {
    enter(Phase::kAnswer, {});
    keep_alive_ = false;
    return refuse({429, "rate_limit_error", "too_many_bodies", "", "too many large requests are being received"});
  }
  enter(Phase::kBody, server_.options.times.body);
  const auto expect = reader_.request()[http::field::expect];
  if (boost::beast::iequals(expect, "100-continue")) send("HTTP/1.1 100 Continue\r\n\r\n");
  advance();
}

}  // namespace consort::cli
