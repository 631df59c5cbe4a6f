// Which paths the service has. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace consort::cli {

enum class Route : std::uint8_t {
  kNone,
  kHealth,
  kVersion,
  kModels,
  kModel,
  kMetrics,
  kChat,
  kCompletion,
  kEncode,
  kDecode
};

struct Place {
  Route route = Route::kNone;
  bool is_post = false;
  std::string_view name = "other";  // for the log: no path that a client made up
};

// Of a path without its query.
Place place_of(std::string_view path);

}  // namespace consort::cli
