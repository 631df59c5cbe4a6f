// HTTP/1.1 as text: the head of a response, the chunks of a body of unknown length. Pure.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace consort::cli {

struct ResponseHead {
  int status = 200;
  std::string_view content_type = "application/json";
  std::string request_id;
  bool keep_alive = true;
  std::vector<std::pair<std::string_view, std::string>> more;
};

// Status line and fields up to the empty line. Without a length the body comes in chunks, or where chunks are not
// understood lasts until the connection ends.
std::string response_head(const ResponseHead& head, std::optional<std::size_t> body_bytes, bool in_chunks = true);
std::string whole_response(const ResponseHead& head, std::string_view body, bool is_head_request = false);
// One chunk of Transfer-Encoding: chunked; `text` is not empty, for an empty chunk is the end.
std::string chunk(std::string_view text);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

// 16 digits.
std::string hex(std::uint64_t number);
// "Bearer KEY" -> KEY, whatever the case of the scheme; empty where it is something else.
std::string_view bearer_of(std::string_view authorization);
// The path of a request target: without its query.
std::string_view path_of(std::string_view target);
// Is `host`, a Host field, a loopback name or one of `allowed`, with or without a port? Else a web page elsewhere may
// be speaking through a name that it made lead here.
bool is_own_host(std::string_view host, std::string_view allowed);

}  // namespace consort::cli
