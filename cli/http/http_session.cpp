// Session: from the first byte of a request to its last.
#include "cli/http/http_session.hpp"

#include <boost/asio/write.hpp>
#include <boost/beast/http/read.hpp>

#include "cli/http/http_text.hpp"

namespace consort::cli {

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

void Session::wait_request() {
  if (closed_) return;
  enter_silent();
  parser_.emplace();
  parser_->header_limit(server_.options.limits.header_bytes);
  parser_->body_limit(server_.options.limits.body_bytes);
  request_id_ = "req_" + hex(server_.rng.next());
  place_ = {};
  key_name_.clear();
  keep_alive_ = chunked_ = true;
  body_is_read_ = head_is_sent_ = answer_ends_ = false;
  call_.reset();
  writer_.reset();
  if (buffer_.size() > 0) return read_header();
  stream_.expires_after(server_.options.times.idle);
  stream_.async_read_some(buffer_.prepare(512), [self = shared_from_this()](error_code error, std::size_t bytes) {
    if (error) return self->close();
    self->buffer_.commit(bytes);
    self->read_header();
  });
}

void Session::read_header() {
  begun_ = std::chrono::steady_clock::now();
  stream_.expires_after(server_.options.times.header);
  http::async_read_header(stream_, buffer_, *parser_,
                          [self = shared_from_this()](error_code error, std::size_t) { self->on_header(error); });
}

void Session::on_bad_read(error_code error) {
  leave_silent();
  keep_alive_ = false;
  const auto bad = [](int status, std::string code, std::string message) {
    return Refusal{status, "invalid_request_error", std::move(code), "", std::move(message)};
  };
  const HttpLimits& limits = server_.options.limits;
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return refuse(
        bad(431, "header_too_large", "the header is larger than " + std::to_string(limits.header_bytes) + " bytes"));
  }
  if (error == http::error::body_limit) {
    return refuse(
        bad(413, "body_too_large", "the body is larger than " + std::to_string(limits.body_bytes) + " bytes"));
  }
  const bool is_http_error = error.category() == http::make_error_code(http::error::bad_version).category();
  // After a timeout the stream has closed itself.
  if (!is_http_error || error == http::error::end_of_stream || error == http::error::partial_message) return close();
  refuse(bad(400, "bad_request", "this is not HTTP/1.1: " + error.message()));
}

void Session::on_header(error_code error) {
  if (closed_) return;
  if (error) return on_bad_read(error);
  leave_silent();
  const auto& request = parser_->get();
  keep_alive_ = parser_->keep_alive();
  chunked_ = request.version() >= 11;
  body_is_read_ = parser_->is_done();
  place_ = place_of(path_of({request.target().data(), request.target().size()}));
  if (const auto refused = may_enter()) {
    if (!body_is_read_) keep_alive_ = false;
    if (refused->status == 401) return refuse(*refused, {{"WWW-Authenticate", "Bearer"}});
    if (refused->status == 405) return refuse(*refused, {{"Allow", place_.is_post ? "POST" : "GET, HEAD"}});
    return refuse(*refused);
  }
  if (body_is_read_) return dispatch();
  read_body();
}

// What the header alone can say.
std::optional<Refusal> Session::may_enter() {
  const auto& request = parser_->get();
  const auto field = [&](http::field name) {
    const auto value = request[name];
    return std::string_view(value.data(), value.size());
  };
  const bool is_open = is_open_to_all(place_.route);
  if (server_.keys.needs_key()) {
    if (!is_open) {
      const std::string_view key = bearer_of(field(http::field::authorization));
      const auto name = key.empty() ? std::nullopt : server_.keys.find(key);
      if (!name) {
        return Refusal{401, "authentication_error", "invalid_api_key", "",
                       key.empty() ? "an API key is needed: Authorization: Bearer KEY" : "this API key is not known"};
      }
      key_name_ = *name;
    }
  } else if (!is_own_host(field(http::field::host), server_.options.host)) {
    // Without keys a web page elsewhere could speak to us through the user's browser.
    return Refusal{403, "permission_error", "wrong_host", "", "the Host field is not a name of this service"};
  }
  if (place_.route == Route::kNone) {
    return Refusal{404, "not_found_error", "unknown_path", "", "there is nothing under this path"};
  }
  const bool is_get = request.method() == http::verb::get || request.method() == http::verb::head;
  if (place_.is_post ? request.method() != http::verb::post : !is_get) {
    return Refusal{405, "invalid_request_error", "method_not_allowed", "",
                   std::string("this path takes ") + (place_.is_post ? "POST" : "GET")};
  }
  if (place_.is_post && !field(http::field::content_type).starts_with("application/json")) {
    return Refusal{415, "invalid_request_error", "wrong_content_type", "", "Content-Type must be application/json"};
  }
  return std::nullopt;
}

void Session::read_body() {
  const auto length = parser_->content_length();
  body_reserved_ = static_cast<std::size_t>(length ? *length : server_.options.limits.body_bytes);
  server_.bodies_bytes += body_reserved_;
  if (server_.bodies_bytes > server_.options.limits.bodies_bytes) {
    keep_alive_ = false;
    return refuse({429, "rate_limit_error", "too_many_bodies", "", "too many large requests are being received"});
  }
  const auto read = [self = shared_from_this()] {
    self->stream_.expires_after(self->server_.options.times.body);
    http::async_read(self->stream_, self->buffer_, *self->parser_,
                     [self](error_code error, std::size_t) { self->on_body(error); });
  };
  const auto expect = parser_->get()[http::field::expect];
  if (!beast::iequals(expect, "100-continue")) return read();
  static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  stream_.expires_after(server_.options.times.write);
  asio::async_write(stream_, asio::buffer(kContinue), [self = shared_from_this(), read](error_code error, std::size_t) {
    if (error) return self->close();
    read();
  });
}

void Session::on_body(error_code error) {
  if (closed_) return;
  if (error) return on_bad_read(error);
  body_is_read_ = true;
  dispatch();
}

}  // namespace consort::cli
