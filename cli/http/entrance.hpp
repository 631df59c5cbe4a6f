// Entrance: what the header of a request alone can say against it: key, host, path, method, type.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>

#include "cli/http/api_keys.hpp"
#include "cli/http/api_request.hpp"
#include "cli/http/http_routes.hpp"
#include "cli/http/request_reader.hpp"
#include "cli/metering/metering.hpp"

namespace consort::cli {

struct Entrance {
  ApiKeyRing& keys;
  std::string_view host;  // that the service listens on

  // Nothing: it may come in, and `payer` is whose request it is.
  std::optional<Refusal> look(const RequestReader::Request& request, const Place& place, Payer& payer);
};

}  // namespace consort::cli
