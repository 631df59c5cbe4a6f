#include "cli/http/http_text.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>

#include "runtime/check.hpp"

namespace consort::cli {

namespace {

std::string_view reason_of(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Error";
  }
}

bool equal_letters(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
  });
}

}  // namespace

std::string response_head(const ResponseHead& head, std::optional<std::size_t> body_bytes, bool in_chunks) {
  std::string text = "HTTP/1.1 " + std::to_string(head.status) + " ";
  text += reason_of(head.status);
  const auto field = [&](std::string_view name, std::string_view value) {
    ((((text += "\r\n") += name) += ": ") += value);
  };
  field("Content-Type", head.content_type);
  field("Cache-Control", "no-store");
  field("X-Content-Type-Options", "nosniff");
  if (!head.request_id.empty()) field("x-request-id", head.request_id);
  for (const auto& [name, value] : head.more) field(name, value);
  field("Connection", head.keep_alive ? "keep-alive" : "close");
  if (body_bytes) {
    field("Content-Length", std::to_string(*body_bytes));
  } else if (in_chunks) {
    field("Transfer-Encoding", "chunked");
  }
  return text + "\r\n\r\n";
}

std::string whole_response(const ResponseHead& head, std::string_view body, bool is_head_request) {
  std::string text = response_head(head, body.size());
  if (!is_head_request) text += body;
  return text;
}

std::string chunk(std::string_view text) {
  CONSORT_CHECK(!text.empty(), "an empty chunk ends the body");
  char size[24];
  std::snprintf(size, sizeof size, "%zx\r\n", text.size());
  return size + std::string(text) + "\r\n";
}

std::string hex(std::uint64_t number) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(number));
  return text;
}

std::string_view bearer_of(std::string_view authorization) {
  constexpr std::string_view kScheme = "Bearer ";
  if (authorization.size() <= kScheme.size() || !equal_letters(authorization.substr(0, kScheme.size()), kScheme))
    return {};
  authorization.remove_prefix(kScheme.size());
  authorization.remove_prefix(std::min(authorization.find_first_not_of(' '), authorization.size()));
  return authorization;
}

std::string_view path_of(std::string_view target) { return target.substr(0, target.find('?')); }

bool is_own_host(std::string_view host, std::string_view allowed) {
  std::string_view name = host;
  if (name.starts_with('[')) {
    name = name.substr(1, name.find(']') - 1);
  } else {
    name = name.substr(0, name.find(':'));
  }
  if (name.empty()) return false;
  const bool is_loopback =
      equal_letters(name, "localhost") || name == "::1" ||
      (name.starts_with("127.") && name.find_first_not_of("0123456789.") == std::string_view::npos);
  return is_loopback || equal_letters(name, allowed);
}

}  // namespace consort::cli
