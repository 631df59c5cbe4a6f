#include "cli/http/http_routes.hpp"

namespace consort::cli {

Place place_of(std::string_view path) {
  struct Entry {
    std::string_view path;
    Route route;
    bool is_post;
  };
  static constexpr Entry kEntries[] = {
      {"/health", Route::kHealth, false},
      {"/version", Route::kVersion, false},
      {"/metrics", Route::kMetrics, false},
      {"/v1/models", Route::kModels, false},
      {"/v1/chat/completions", Route::kChat, true},
      {"/v1/completions", Route::kCompletion, true},
      {"/tokenize", Route::kEncode, true},
      {"/detokenize", Route::kDecode, true},
      {"/", Route::kPage, false},
      {"/about", Route::kAbout, false},
      {"/live", Route::kLive, false},
      {"/drain", Route::kDrain, true},
  };
  for (const Entry& entry : kEntries) {
    if (entry.path == path) return {entry.route, entry.is_post, entry.path};
  }
  if (path.starts_with("/v1/models/")) return {Route::kModel, false, "/v1/models/{id}"};
  return {};
}

bool is_open_to_all(Route route) {
  return route == Route::kHealth || route == Route::kVersion || route == Route::kPage || route == Route::kAbout;
}

bool is_for_watching(Route route) {
  return route == Route::kHealth || route == Route::kMetrics || route == Route::kLive;
}

}  // namespace consort::cli
