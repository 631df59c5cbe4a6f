#include "cli/http/http_server.hpp"

#include <sys/resource.h>
#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstdio>
#include <list>
#include <set>
#include <thread>

#include "cli/http/api_answer.hpp"
#include "cli/http/api_keys.hpp"
#include "cli/http/api_request.hpp"
#include "cli/http/http_text.hpp"
#include "runtime/posix/posix_clock.hpp"

namespace consort::cli {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;

namespace {

constexpr auto kStateIsOld = std::chrono::seconds(5);  // the Gateway looks every second
constexpr auto kAcceptAgain = std::chrono::milliseconds(100);
constexpr std::size_t kBufferBytes = 64u << 10;  // of one connection, for what was received and not parsed
constexpr std::size_t kDrainBytes = 1u << 20;
constexpr std::size_t kSpareFiles = 64;  // descriptors that are no connections
constexpr int kBacklog = 1024;

enum class Route : std::uint8_t {
  kNone,
  kHealth,
  kVersion,
  kModels,
  kModel,
  kMetrics,
  kChat,
  kCompletion,
  kEncode,
  kDecode
};

struct Place {
  Route route = Route::kNone;
  bool is_post = false;
  std::string_view name = "other";  // for the log: no path that a client made up
};

Place place_of(std::string_view path) {
  struct Entry {
    std::string_view path;
    Route route;
    bool is_post;
  };
  static constexpr Entry kEntries[] = {
      {"/health", Route::kHealth, false},           {"/version", Route::kVersion, false},
      {"/metrics", Route::kMetrics, false},         {"/v1/models", Route::kModels, false},
      {"/v1/chat/completions", Route::kChat, true}, {"/v1/completions", Route::kCompletion, true},
      {"/tokenize", Route::kEncode, true},          {"/detokenize", Route::kDecode, true},
  };
  for (const Entry& entry : kEntries) {
    if (entry.path == path) return {entry.route, entry.is_post, entry.path};
  }
  if (path.starts_with("/v1/models/")) return {Route::kModel, false, "/v1/models/{id}"};
  return {};
}

std::string hex(std::uint64_t number) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(number));
  return text;
}

}  // namespace

class Session;

struct HttpServer::State {
  State(HttpOptions given, std::shared_ptr<actors::RequestPort> to, std::function<std::string()> figures)
      : options(std::move(given)), port(std::move(to)), metrics(std::move(figures)), keys(options.keys_file) {}

  HttpOptions options;
  std::shared_ptr<actors::RequestPort> port;
  std::function<std::string()> metrics;
  ApiKeyRing keys;
  std::list<std::weak_ptr<Session>> silent;    // connections without a request, the oldest first
  std::set<std::shared_ptr<Session>> working;  // no operation of the connection keeps these
  std::size_t connections = 0;
  std::size_t bodies_bytes = 0;
  runtime::Rng rng{runtime::posix::kernel_seed()};
  // Last, so that sessions, which live in its handlers, go before what they count in.
  asio::io_context io{1};  // one thread: no locks
  tcp::acceptor acceptor{io};
  asio::steady_timer accept_again{io};
  std::thread thread;

  void accept();
  void make_room();
};

// One connection: request after request.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(HttpServer::State& server, tcp::socket socket)
      : server_(server), stream_(std::move(socket)), buffer_(kBufferBytes), timer_(server.io) {
    ++server_.connections;
  }
  ~Session() {
    leave_silent();
    release_body();
    --server_.connections;
  }

  void start() { wait_request(); }
  // Makes room for another connection.
  void evict() { close(); }
  void on_event(std::uint64_t work, const actors::PortEvent& event);

 private:
  using Parser = http::request_parser<http::string_body>;

  // Reading.
  void wait_request();
  void read_header();
  void on_header(error_code error);
  void read_body();
  void on_body(error_code error);
  void on_bad_read(error_code error);
  void enter_silent();
  void leave_silent();
  void release_body();

  // Answering.
  std::optional<Refusal> may_enter();
  void dispatch();
  void get();
  void submit(actors::PortWork work);
  template <class Call>
  bool accept_call(OrRefusal<Call> decoded, Call& out);
  std::optional<Refusal> unknown_model(std::string_view model) const;
  void answer(int status, std::string body, std::string_view type = "application/json",
              std::vector<std::pair<std::string_view, std::string>> more = {});
  void refuse(const Refusal& refusal, std::vector<std::pair<std::string_view, std::string>> more = {});
  void send(std::string_view text);
  void write_next();
  void on_written(error_code error);
  void end_answer();
  void keep_alive_later();
  void watch_peer();
  void begin_work();
  bool end_work();
  void peer_gone();
  void drain(std::size_t taken);
  void close();
  void log(int status);

  HttpServer::State& server_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  asio::steady_timer timer_;
  std::optional<std::list<std::weak_ptr<Session>>::iterator> silent_;
  std::size_t body_reserved_ = 0;
  // The request at hand.
  Place place_;
  std::string request_id_;
  std::string key_name_;
  std::chrono::steady_clock::time_point begun_;
  bool keep_alive_ = false;
  bool chunked_ = true;  // HTTP/1.0 has no chunks: the end of the connection ends the body
  bool body_is_read_ = false;
  bool working_ = false;    // between submit and the last event
  std::uint64_t work_ = 0;  // counts works, so that late events of an earlier one are told
  std::uint64_t ticket_ = 0;
  std::optional<AnswerCall> call_;
  std::optional<AnswerWriter> writer_;
  bool head_is_sent_ = false;
  bool watching_ = false;
  // Writing.
  std::string pending_;
  std::string writing_;
  bool is_writing_ = false;
  bool answer_ends_ = false;
  bool closed_ = false;
};

namespace {

// From the Gateway's loop to the server's thread.
class SessionSink final : public actors::PortSink {
 public:
  SessionSink(asio::io_context& io, std::weak_ptr<Session> session, std::uint64_t work)
      : io_(io), session_(std::move(session)), work_(work) {}
  void take(actors::PortEvent event) override {
    asio::post(io_, [session = session_, work = work_, event = std::move(event)] {
      if (const auto alive = session.lock()) alive->on_event(work, event);
    });
  }

 private:
  asio::io_context& io_;
  const std::weak_ptr<Session> session_;
  const std::uint64_t work_;
};

}  // namespace

// --- reading ---------------------------------------------------------------------------------------------------------

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
  const bool is_open = place_.route == Route::kHealth || place_.route == Route::kVersion;
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

// --- answering -------------------------------------------------------------------------------------------------------

std::optional<Refusal> Session::unknown_model(std::string_view model) const {
  if (model == server_.options.model) return std::nullopt;
  return Refusal{
      404, "not_found_error", "model_not_found", "model",
      "there is no model '" + std::string(model.substr(0, 128)) + "' here; there is '" + server_.options.model + "'"};
}

template <class Call>
bool Session::accept_call(OrRefusal<Call> decoded, Call& out) {
  if (const auto* refused = std::get_if<Refusal>(&decoded)) {
    refuse(*refused);
    return false;
  }
  out = std::move(std::get<Call>(decoded));
  const bool may_be_unnamed = !std::is_same_v<Call, AnswerCall>;
  if (may_be_unnamed && out.model.empty()) return true;
  if (const auto refused = unknown_model(out.model)) {
    refuse(*refused);
    return false;
  }
  return true;
}

void Session::dispatch() {
  const std::string body = std::move(parser_->get().body());
  release_body();
  switch (place_.route) {
    case Route::kChat:
    case Route::kCompletion: {
      AnswerCall call;
      if (!accept_call(place_.route == Route::kChat ? decode_chat(body) : decode_completion(body), call)) return;
      const auto created = std::chrono::system_clock::now().time_since_epoch() / std::chrono::seconds(1);
      writer_.emplace(call, AnswerWriter::Head{hex(server_.rng.next()), created, server_.options.model});
      actors::PortWork work = std::move(call.request);
      call_ = std::move(call);
      return submit(std::move(work));
    }
    case Route::kEncode: {
      EncodeCall call;
      if (accept_call(decode_encode(body), call)) submit(std::move(call.request));
      return;
    }
    case Route::kDecode: {
      DecodeCall call;
      if (accept_call(decode_decode(body), call)) submit(std::move(call.request));
      return;
    }
    default:
      return get();
  }
}

void Session::get() {
  const HttpOptions& options = server_.options;
  switch (place_.route) {
    case Route::kHealth: {
      actors::ServingState state = server_.port->state();
      const auto now = std::chrono::steady_clock::now().time_since_epoch();
      if (state.serves && now - state.asked_at.time_since_epoch() > kStateIsOld)
        state = {false, "the Gateway is stuck", {}};
      if (state.serves) return answer(200, health_json(state));
      return answer(503, health_json(state), "application/json", {{"Retry-After", "1"}});
    }
    case Route::kVersion:
      return answer(200, version_json(options.version));
    case Route::kModels:
      return answer(200, models_json(options.model, options.created));
    case Route::kModel: {
      const auto target = parser_->get().target();
      const std::string_view path = path_of({target.data(), target.size()});
      const std::string_view id = path.substr(std::string_view("/v1/models/").size());
      if (const auto refused = unknown_model(id)) return refuse(*refused);
      return answer(200, model_json(options.model, options.created));
    }
    case Route::kMetrics:
      return answer(200, server_.metrics(), "text/plain; version=0.0.4; charset=utf-8");
    default:
      return close();
  }
}

void Session::submit(actors::PortWork work) {
  ++work_;
  auto ticket =
      server_.port->submit(std::move(work), std::make_shared<SessionSink>(server_.io, weak_from_this(), work_));
  if (!ticket.ok()) {
    return refuse(refusal_of({actors::WorkFailure::kBusy, "too many requests: " + ticket.error().text}));
  }
  ticket_ = *ticket;
  begin_work();
  watch_peer();
}

void Session::on_event(std::uint64_t work, const actors::PortEvent& event) {
  if (closed_ || !working_ || work != work_) return;
  if (actors::is_last(event)) end_work();
  if (const auto* encoded = std::get_if<actors::Encoded>(&event)) {
    return answer(200, encoded_json(*encoded, server_.options.context_tokens));
  }
  if (const auto* decoded = std::get_if<actors::Decoded>(&event)) return answer(200, decoded_json(*decoded));
  if (const auto* failed = std::get_if<actors::WorkFailed>(&event); failed != nullptr && !head_is_sent_) {
    Refusal refusal = refusal_of(*failed);
    if (call_ && call_->shape == AnswerShape::kCompletion && !refusal.param.empty()) refusal.param = "prompt";
    return refuse(refusal);
  }
  if (!call_->stream) {
    writer_->gather(event);
    if (std::holds_alternative<actors::AnswerEnded>(event)) answer(200, writer_->body());
    return;
  }
  std::string text = writer_->stream(event);
  if (!text.empty() && chunked_) text = chunk(text);
  if (!head_is_sent_ && std::holds_alternative<actors::AnswerStarted>(event)) {
    head_is_sent_ = true;
    if (!chunked_) keep_alive_ = false;
    ResponseHead head{200, "text/event-stream; charset=utf-8", request_id_, keep_alive_, {{"X-Accel-Buffering", "no"}}};
    text = response_head(head, std::nullopt, chunked_) + text;
    keep_alive_later();
  }
  if (actors::is_last(event) && chunked_) text += kLastChunk;
  if (actors::is_last(event)) answer_ends_ = true;
  send(text);
  if (answer_ends_) log(std::holds_alternative<actors::WorkFailed>(event) ? 500 : 200);
}

void Session::answer(int status, std::string body, std::string_view type,
                     std::vector<std::pair<std::string_view, std::string>> more) {
  ResponseHead head{status, type, request_id_, keep_alive_, std::move(more)};
  answer_ends_ = true;
  log(status);
  send(whole_response(head, body, parser_->get().method() == http::verb::head));
}

void Session::refuse(const Refusal& refusal, std::vector<std::pair<std::string_view, std::string>> more) {
  release_body();
  const bool again = is_worth_retrying(refusal);
  if (again) more.emplace_back("Retry-After", "1");
  if (!again && refusal.status >= 500) more.emplace_back("x-should-retry", "false");
  answer(refusal.status, error_json(refusal), "application/json", std::move(more));
}

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
  const bool is_watching = place_.route == Route::kHealth || place_.route == Route::kMetrics;
  if (is_watching && status == 200) return;
  const auto took = std::chrono::steady_clock::now() - begun_;
  const actors::AnswerUsage usage = writer_ ? writer_->usage() : actors::AnswerUsage{};
  std::fprintf(
      stderr,
      R"({"request_id":"%s","key":"%s","path":"%.*s","status":%d,"ms":%.1f,"prompt_tokens":%u,"completion_tokens":%u})"
      "\n",
      request_id_.c_str(), key_name_.c_str(), static_cast<int>(place_.name.size()), place_.name.data(), status,
      std::chrono::duration<double, std::milli>(took).count(), usage.prompt_tokens, usage.completion_tokens);
}

// --- the server ------------------------------------------------------------------------------------------------------

void HttpServer::State::make_room() {
  while (connections > options.limits.connections && !silent.empty()) {
    const auto oldest = silent.front().lock();
    if (!oldest) {
      silent.pop_front();
      continue;
    }
    oldest->evict();
    return;  // its memory goes when its last operation has ended
  }
}

void HttpServer::State::accept() {
  acceptor.async_accept([this](error_code error, tcp::socket socket) {
    if (error == asio::error::operation_aborted) return;
    if (error) {  // no descriptors, most likely
      make_room();
      accept_again.expires_after(kAcceptAgain);
      accept_again.async_wait([this](error_code ended) {
        if (!ended) accept();
      });
      return;
    }
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    std::make_shared<Session>(*this, std::move(socket))->start();
    make_room();
    accept();
  });
}

HttpServer::HttpServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

runtime::Outcome<std::unique_ptr<HttpServer>> HttpServer::open(HttpOptions options,
                                                               std::shared_ptr<actors::RequestPort> port,
                                                               std::function<std::string()> metrics) {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    (void)::setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur != RLIM_INFINITY && files.rlim_cur > 2 * kSpareFiles) {
      options.limits.connections = std::min<std::size_t>(options.limits.connections, files.rlim_cur - kSpareFiles);
    }
  }
  auto state = std::make_unique<State>(std::move(options), std::move(port), std::move(metrics));
  const HttpOptions& given = state->options;
  error_code error;
  const auto address = asio::ip::make_address(given.host, error);
  const tcp::endpoint endpoint(address, given.port);
  if (!error) state->acceptor.open(endpoint.protocol(), error);
  if (!error) state->acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) state->acceptor.bind(endpoint, error);
  if (!error) state->acceptor.listen(kBacklog, error);
  if (error) {
    return runtime::failure(runtime::ErrorKind::kInvalid, "cannot listen on " + given.host + " port " +
                                                              std::to_string(given.port) + ": " + error.message() +
                                                              ": choose another gateway.port");
  }
  std::unique_ptr<HttpServer> server(new HttpServer(std::move(state)));
  server->state_->accept();
  server->state_->thread = std::thread([raw = server->state_.get()] { raw->io.run(); });
  return server;
}

HttpServer::~HttpServer() {
  state_->io.stop();
  if (state_->thread.joinable()) state_->thread.join();
  state_->working.clear();  // before the io_context that their sockets belong to
}

std::uint16_t HttpServer::port() const { return state_->acceptor.local_endpoint().port(); }

}  // namespace consort::cli
