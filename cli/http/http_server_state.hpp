// What the HTTP server and its sessions share. Lives on the server's thread, but for `thread` itself.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <list>
#include <set>
#include <thread>
#include <utility>

#include "cli/http/api_keys.hpp"
#include "cli/http/http_server.hpp"
#include "runtime/env.hpp"
#include "runtime/posix/posix_clock.hpp"

namespace consort::cli {

class Session;

struct HttpServer::State {
  State(HttpOptions given, std::shared_ptr<actors::RequestPort> to, Snapshot figures)
      : options(std::move(given)), port(std::move(to)), metrics(std::move(figures)), keys(options.keys_file) {}

  HttpOptions options;
  std::shared_ptr<actors::RequestPort> port;
  Snapshot metrics;
  ApiKeyRing keys;
  std::list<std::weak_ptr<Session>> silent;    // connections without a request, the oldest first
  std::set<std::shared_ptr<Session>> working;  // no operation of the connection keeps these
  std::size_t connections = 0;
  std::size_t bodies_bytes = 0;
  runtime::Rng rng{runtime::posix::kernel_seed()};
  // Last, so that sessions, which live in its handlers, go before what they count in.
  boost::asio::io_context io{1};  // one thread: no locks
  boost::asio::ip::tcp::acceptor acceptor{io};
  boost::asio::steady_timer accept_again{io};
  std::thread thread;

  void accept();
  void make_room();
};

}  // namespace consort::cli
