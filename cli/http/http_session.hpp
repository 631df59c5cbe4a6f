// Session: one connection to the HTTP server. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/http/api_answer.hpp"
#include "cli/http/api_request.hpp"
#include "cli/http/http_routes.hpp"
#include "cli/http/http_server_state.hpp"

namespace consort::cli {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;

inline constexpr std::size_t kBufferBytes = 64u << 10;  // of one connection, for what was received and not parsed

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
  void on_looked(std::uint64_t work, const cluster::ClusterPicturePtr& picture);
  void on_drained(std::uint64_t work, const runtime::Status& status);

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
  void get_page();
  void look();
  void drain_node(std::string_view body);
  void begin_watching();
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

}  // namespace consort::cli
