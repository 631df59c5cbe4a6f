#include "cli/http/request_reader.hpp"

namespace consort::cli {

namespace http = boost::beast::http;

namespace {

// Of what is between two chunks of a body: their sizes, and extensions that nobody needs.
constexpr std::size_t kMaxBetweenChunks = 64u << 10;

}  // namespace

RequestReader::Step RequestReader::step() {
  if (error_) return Step::kWrong;
  if (!parser_) {
    if (held_.empty()) return Step::kNeedsBytes;
    parser_.emplace();
    parser_->header_limit(header_bytes_);
    parser_->body_limit(body_bytes_);
  }
  for (;;) {
    if (parser_->is_header_done() && !header_is_told_) {
      header_is_told_ = true;
      return Step::kHeader;
    }
    if (parser_->is_done()) return Step::kWhole;
    if (held_.empty()) return Step::kNeedsBytes;
    boost::system::error_code error;
    const std::size_t taken = parser_->put(boost::asio::buffer(held_), error);
    held_.erase(0, taken);
    if (error == http::error::need_more) {
      if (taken > 0 && !held_.empty()) continue;
      if (held_.size() <= kMaxBetweenChunks) return Step::kNeedsBytes;
      error = http::make_error_code(http::error::buffer_overflow);
    }
    if (error) {
      error_ = error;
      return Step::kWrong;
    }
  }
}

std::optional<std::uint64_t> RequestReader::content_length() const {
  const auto length = parser_->content_length();
  if (!length) return std::nullopt;
  return *length;
}

void RequestReader::next() {
  parser_.reset();
  header_is_told_ = false;
  if (held_.empty()) held_ = std::string();  // with its memory
}

}  // namespace consort::cli
