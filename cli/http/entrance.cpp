#include "cli/http/entrance.hpp"

#include "cli/http/http_text.hpp"

namespace consort::cli {

namespace http = boost::beast::http;

std::optional<Refusal> Entrance::look(const RequestReader::Request& request, const Place& place, Payer& payer) {
  const auto field = [&](http::field name) {
    const auto value = request[name];
    return std::string_view(value.data(), value.size());
  };
  if (keys.needs_key()) {
    if (!is_open_to_all(place.route)) {
      const std::string_view key = bearer_of(field(http::field::authorization));
      const ApiKey* known = key.empty() ? nullptr : keys.find(key);
      if (known == nullptr) {
        return Refusal{401, "authentication_error", "invalid_api_key", "",
                       key.empty() ? "an API key is needed: Authorization: Bearer KEY" : "this API key is not known"};
      }
      payer = {known->name, known->limits};
    }
  } else if (!is_own_host(field(http::field::host), host)) {
    // Without keys a web page elsewhere could speak to us through the user's browser.
    return Refusal{403, "permission_error", "wrong_host", "", "the Host field is not a name of this service"};
  }
  if (place.route == Route::kNone) {
    return Refusal{404, "not_found_error", "unknown_path", "", "there is nothing under this path"};
  }
  const bool is_get = request.method() == http::verb::get || request.method() == http::verb::head;
  if (place.is_post ? request.method() != http::verb::post : !is_get) {
    return Refusal{405, "invalid_request_error", "method_not_allowed", "",
                   std::string("this path takes ") + (place.is_post ? "POST" : "GET")};
  }
  if (place.is_post && !field(http::field::content_type).starts_with("application/json")) {
    return Refusal{415, "invalid_request_error", "wrong_content_type", "", "Content-Type must be application/json"};
  }
  return std::nullopt;
}

}  // namespace consort::cli
