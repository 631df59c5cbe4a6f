#include "cli/http/http_server.hpp"

#include <sys/resource.h>

#include <algorithm>

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
    std::make_shared<Session>(*this, std::move(socket))->start();
    make_room();
    accept();
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