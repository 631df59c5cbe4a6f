#include "model/text/added_tokens.hpp"

#include <algorithm>

namespace consort::model {

AddedTokens::AddedTokens(std::vector<Entry> entries) : entries_(std::move(entries)) {
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.text < b.text; });
  for (const Entry& entry : entries_) starts_[static_cast<unsigned char>(entry.text[0])] = true;
}

// Narrows the sorted entries to those that agree with the text byte by byte. The entry that is used up at a depth is
// the first of its range.
const AddedTokens::Entry* AddedTokens::longest_at_start(std::string_view text) const {
  const Entry* longest = nullptr;
  auto first = entries_.begin();
  auto last = entries_.end();
  for (std::size_t depth = 0; depth < text.size() && first != last; ++depth) {
    const auto byte = static_cast<unsigned char>(text[depth]);
    if (first->text.size() == depth) ++first;
    const auto at_depth = [depth](const Entry& e) { return static_cast<unsigned char>(e.text[depth]); };
    first = std::partition_point(first, last, [&](const Entry& e) { return at_depth(e) < byte; });
    last = std::partition_point(first, last, [&](const Entry& e) { return at_depth(e) == byte; });
    if (first != last && first->text.size() == depth + 1) longest = &*first;
  }
  return longest;
}

void AddedTokens::split(std::string_view text, std::vector<TextSegment>& segments) const {
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Entry* entry = starts_[static_cast<unsigned char>(text[at])] ? longest_at_start(text.substr(at)) : nullptr;
    if (entry == nullptr) {
      ++at;
      continue;
    }
    if (at > begin) segments.push_back({text.substr(begin, at - begin), -1});
    segments.push_back({text.substr(at, entry->text.size()), entry->id});
    at += entry->text.size();
    begin = at;
  }
  if (begin < text.size()) segments.push_back({text.substr(begin), -1});
}

}  // namespace consort::model
