#include "cli/ids_text.hpp"

#include <charconv>

namespace consort::cli {

runtime::Outcome<std::vector<std::int32_t>> parse_ids(std::string_view text) {
  std::vector<std::int32_t> ids;
  const auto is_separator = [](char c) { return c == ',' || c == ' ' || c == '\n' || c == '\t'; };
  for (std::size_t at = 0; at < text.size();) {
    if (is_separator(text[at])) {
      ++at;
      continue;
    }
    std::int32_t id = 0;
    const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), id);
    const auto next = static_cast<std::size_t>(end - text.data());
    if (error != std::errc{} || id < 0 || (next < text.size() && !is_separator(text[next]))) {
      return runtime::failure(runtime::ErrorKind::kInvalid, "ids: '" + std::string(text.substr(at, 16)) +
                                                                "' is no token id; give numbers like 3,1,4");
    }
    ids.push_back(id);
    at = next;
  }
  if (ids.empty()) return runtime::failure(runtime::ErrorKind::kInvalid, "ids: there is none; give numbers like 3,1,4");
  return ids;
}

std::string print_ids(std::span<const std::int32_t> ids) {
  std::string text;
  for (auto id : ids) text += (text.empty() ? "" : ",") + std::to_string(id);
  return text;
}

}  // namespace consort::cli
