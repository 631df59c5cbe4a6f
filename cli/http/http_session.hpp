// Session: one connection to the HTTP server. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
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
#include "cli/http/http_stream.hpp"
#include "cli/http/request_reader.hpp"

namespace consort::cli {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;

class WorkSink;

// One connection: request after request. What it waits for keeps it alive.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(HttpServer::State& server, HttpStream stream);
  ~Session();

  void start();
  // Makes room for another connection.
  void evict() { close(); }
  void on_event(std::uint64_t work, const actors::PortEvent& event);
  // Notes what the work at hand has used so far.
  void meter();
  void on_looked(std::uint64_t work, const cluster::ClusterPicturePtr& picture);
  void on_drained(std::uint64_t work, const runtime::Status& status);

 private:
  enum class Phase : std::uint8_t {
    kHandshake,
    kIdle,
    kHeader,
    kBody,
    kAnswer,  // from the whole request, or its refusal, to the last byte
    kDrain,   // the answer is out; what the client still sends is read away for a moment
  };

  // Reading.
  void enter(Phase phase, std::chrono::milliseconds deadline);
  void shake_hands();
  void wait_request();
  void read_later();
  void read_now();
  void on_bytes(std::string_view bytes);
  void on_end();
  void advance();
  void on_header();
  void read_body();
  void on_bad_read(error_code error);
  void enter_silent();
  void leave_silent();
  void release_body();

  // Answering.
  std::optional<Refusal> may_enter();
  void dispatch();
  template <class Call, class Use>
  void decode(OrRefusal<Call> (*how)(std::string_view), std::string body, Use use);
  void get();
  void get_page();
  void look();
  void drain_node(std::string_view body);
  void begin_watching();
  void submit(actors::PortWork work, std::uint64_t tokens);
  void refuse_quota(const QuotaOver& over);
  template <class Call>
  bool accept_call(OrRefusal<Call> decoded, Call& out);
  std::optional<Refusal> unknown_model(std::string_view model) const;
  void answer(int status, std::string body, std::string_view type = "application/json",
              std::vector<std::pair<std::string_view, std::string>> more = {});
  void refuse(const Refusal& refusal, std::vector<std::pair<std::string_view, std::string>> more = {});
  void send(std::string_view text);
  void write_next();
  void end_answer();
  void keep_alive_later();
  void watch_peer();
  void begin_work();
  bool end_work(bool failed = false);
  void peer_gone();
  void close();
  void log(int status);

  HttpServer::State& server_;
  HttpStream stream_;
  RequestReader reader_;
  Phase phase_ = Phase::kIdle;
  asio::steady_timer deadline_;        // of the phase
  asio::steady_timer write_deadline_;  // of what is being written
  asio::steady_timer timer_;           // of the comments of a silent stream
  bool is_reading_ = false;            // something waits for the socket to be readable
  std::size_t drained_bytes_ = 0;
  std::optional<std::list<std::weak_ptr<Session>>::iterator> silent_;
  std::size_t body_reserved_ = 0;
  // The request at hand.
  Place place_;
  std::string request_id_;
  Payer payer_;
  runtime::Instant begun_;
  bool keep_alive_ = false;
  bool chunked_ = true;  // HTTP/1.0 has no chunks: the end of the connection ends the body
  bool body_is_read_ = false;
  bool working_ = false;    // between submit and the last event
  std::uint64_t work_ = 0;  // counts works, so that late events of an earlier one are told
  std::uint64_t ticket_ = 0;
  std::optional<AnswerCall> call_;
  std::optional<AnswerWriter> writer_;
  std::shared_ptr<WorkSink> sink_;
  std::unique_ptr<Metering::Request> metered_;
  bool head_is_sent_ = false;
  // Writing.
  std::string pending_;
  std::string writing_;
  std::size_t written_bytes_ = 0;  // of `writing_`
  bool is_writing_ = false;        // something waits for the socket to take more
  bool answer_ends_ = false;
  bool closed_ = false;
};

}  // namespace consort::cli
