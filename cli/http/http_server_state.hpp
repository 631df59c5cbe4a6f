// What the HTTP server and its sessions share. Lives on the server's thread, but for `thread` itself.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "cli/http/api_keys.hpp"
#include "cli/http/http_server.hpp"
#include "cli/http/tls_files.hpp"
#include "cli/metering/metering.hpp"
#include "runtime/env.hpp"
#include "runtime/posix/posix_clock.hpp"
#include "runtime/posix/posix_disk.hpp"

namespace consort::cli {

class Session;

inline constexpr std::size_t kReadBytes = 16u << 10;  // at once from one connection; a record of TLS
inline constexpr auto kMeterEvery = std::chrono::milliseconds(250);
inline constexpr std::uint64_t kProgressTurns = 4;  // a second: what a kill may lose of a growing answer

struct HttpServer::State {
  State(HttpOptions given, std::shared_ptr<actors::RequestPort> to, Snapshot figures)
      : options(std::move(given)), port(std::move(to)), metrics(std::move(figures)), keys(options.keys_file) {}

  HttpOptions options;
  std::shared_ptr<actors::RequestPort> port;
  Snapshot metrics;
  ApiKeyRing keys;
  std::optional<TlsFiles> tls;
  runtime::posix::PosixClock clock;
  std::optional<runtime::posix::PosixDisk> disk{std::in_place};
  std::unique_ptr<Metering> metering;
  std::array<char, kReadBytes> scratch{};      // what a connection just gave; none has a buffer of its own
  std::list<std::weak_ptr<Session>> silent;    // connections without a request, the oldest first
  std::set<std::shared_ptr<Session>> working;  // no operation of the connection keeps these
  std::size_t connections = 0;
  std::size_t bodies_bytes = 0;
  std::uint64_t meter_turns = 0;
  runtime::Rng rng{runtime::posix::kernel_seed()};
  // Last, so that sessions, which live in its handlers, go before what they count in.
  boost::asio::io_context io{1};  // one thread: no locks
  boost::asio::ip::tcp::acceptor acceptor{io};
  boost::asio::steady_timer accept_again{io};
  boost::asio::steady_timer meter_again{io};
  boost::asio::thread_pool aside{1};  // what takes long goes there, one after the other
  std::thread thread;

  runtime::Status prepare();
  void accept();
  void meter();
  void make_room();
};

}  // namespace consort::cli
