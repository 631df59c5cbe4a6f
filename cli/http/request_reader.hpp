// RequestReader: the bytes of a connection to requests, one after another. Pure.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace consort::cli {

class RequestReader {
 public:
  using Request = boost::beast::http::request<boost::beast::http::string_body>;
  enum class Step : std::uint8_t { kNeedsBytes, kHeader, kWhole, kWrong };

  RequestReader(std::uint32_t header_bytes, std::uint64_t body_bytes)
      : header_bytes_(header_bytes), body_bytes_(body_bytes) {}

  // What came, of this request and maybe of the next.
  void add(std::string_view bytes) { held_ += bytes; }
  bool holds_bytes() const { return !held_.empty(); }
  // How far the request at hand is: first its header, then the whole; nothing more once something was wrong.
  Step step();
  const boost::system::error_code& error() const { return error_; }  // after kWrong
  bool has_header() const { return header_is_told_; }
  // After the header.
  const Request& request() const { return parser_->get(); }
  bool keeps_alive() const { return parser_->keep_alive(); }
  bool is_whole() const { return parser_->is_done(); }
  std::optional<std::uint64_t> content_length() const;
  std::string take_body() { return std::move(parser_->get().body()); }
  // Forgets the request; what came behind it is the next one's.
  void next();

 private:
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  const std::uint32_t header_bytes_;
  const std::uint64_t body_bytes_;
  std::string held_;              // not parsed yet
  std::optional<Parser> parser_;  // from the first byte on: an idle connection has none
  bool header_is_told_ = false;
  boost::system::error_code error_;
};

}  // namespace consort::cli
