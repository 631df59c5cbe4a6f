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
  kDecode,
  kPage,
  kAbout,
  kLive,
  kDrain
};

struct Place {
  Route route = Route::kNone;
  bool is_post = false;
  std::string_view name = "other";  // for the log: no path that a client made up
};

// Of a path without its query.
Place place_of(std::string_view path);
// Asked for without a key.
bool is_open_to_all(Route route);
// Asked again and again by whoever looks: not worth a line in the log.
bool is_for_watching(Route route);

}  // namespace consort::cli
