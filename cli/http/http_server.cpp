#include "cli/http/http_server.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <csignal>
#include <cstdio>

#include "cli/http/http_server_state.hpp"
#include "cli/http/http_session.hpp"

namespace consort::cli {

namespace {

constexpr auto kAcceptAgain = std::chrono::milliseconds(100);
constexpr std::size_t kSpareFiles = 64;  // descriptors that are no connections
constexpr int kBacklog = 1024;

}  // namespace

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
    TlsSession secured;
    if (tls) {
      std::string trouble;
      secured = tls->session(trouble);
      if (!trouble.empty()) std::fprintf(stderr, "the old certificate stays: %s\n", trouble.c_str());
    }
    std::make_shared<Session>(*this, HttpStream(std::move(socket), std::move(secured)))->start();
    make_room();
    accept();
  });
}

runtime::Status HttpServer::State::prepare() {
  if (!options.tls_certificate.empty()) {
    CONSORT_TRY(tls, TlsFiles::open(options.tls_certificate, options.tls_key));
  }
  std::unique_ptr<UsageLog> log;
  if (!options.usage_file.empty()) {
    UsageLog::Ways ways;
    ways.here = [this](std::function<void()> work) { asio::post(io, std::move(work)); };
    ways.aside = [this](std::function<void()> work) { asio::post(aside, std::move(work)); };
    ways.say = [](const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); };
    CONSORT_TRY(log, UsageLog::open(*disk, options.usage_file, std::move(ways)));
  }
  metering = std::make_unique<Metering>(clock, std::move(log));
  return runtime::done();
}

// Ended requests come to disk at each turn; answers that are long in the making count as they grow, every few turns.
void HttpServer::State::meter() {
  if (++meter_turns % kProgressTurns == 0) {
    for (const auto& session : working) session->meter();
  }
  metering->tick();
  meter_again.expires_after(kMeterEvery);
  meter_again.async_wait([this](error_code ended) {
    if (!ended) meter();
  });
}

HttpServer::HttpServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

runtime::Outcome<std::unique_ptr<HttpServer>> HttpServer::open(HttpOptions options,
                                                               std::shared_ptr<actors::RequestPort> port,
                                                               Snapshot metrics) {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    (void)::setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur != RLIM_INFINITY && files.rlim_cur > 2 * kSpareFiles) {
      options.limits.connections = std::min<std::size_t>(options.limits.connections, files.rlim_cur - kSpareFiles);
    }
  }
  auto state = std::make_unique<State>(std::move(options), std::move(port), std::move(metrics));
  CONSORT_RETURN_IF_ERROR(state->prepare());
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
  server->state_->meter();
  server->state_->thread = std::thread([raw = server->state_.get()] {
    // OpenSSL writes to connections that may be gone: that is an error code, not the end of the process.
    sigset_t gone;
    sigemptyset(&gone);
    sigaddset(&gone, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &gone, nullptr);
    raw->io.run();
  });
  return server;
}

HttpServer::~HttpServer() {
  state_->io.stop();
  if (state_->thread.joinable()) state_->thread.join();
  state_->aside.stop();
  state_->aside.join();
  // What runs is metered as broken off. The disk ends with what it was given, and tells an io_context that still is.
  while (!state_->working.empty()) std::shared_ptr<Session>(*state_->working.begin())->evict();
  state_->metering.reset();
  state_->disk.reset();
}

std::uint16_t HttpServer::port() const { return state_->acceptor.local_endpoint().port(); }

}  // namespace consort::cli