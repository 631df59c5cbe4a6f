#include "model/grammar/byte_dfa.hpp"

#include <algorithm>
#include <map>
#include <utility>

namespace consort::model {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;

namespace {

// Which states lead to an accepting one.
std::vector<bool> alive_states(const std::vector<std::array<std::uint32_t, 256>>& next,
                               const std::vector<bool>& accepts) {
  std::vector<std::vector<std::uint32_t>> before(next.size());
  for (std::uint32_t state = 1; state < next.size(); ++state) {
    std::uint32_t last = ByteDfa::kDead;
    for (const std::uint32_t to : next[state]) {
      if (to != last) before[to].push_back(state);
      last = to;
    }
  }
  std::vector<bool> alive(next.size(), false);
  std::vector<std::uint32_t> found;
  for (std::uint32_t state = 1; state < next.size(); ++state) {
    if (!accepts[state]) continue;
    alive[state] = true;
    found.push_back(state);
  }
  while (!found.empty()) {
    const std::uint32_t state = found.back();
    found.pop_back();
    for (const std::uint32_t from : before[state]) {
      if (alive[from] || from == ByteDfa::kDead) continue;
      alive[from] = true;
      found.push_back(from);
    }
  }
  return alive;
}

}  // namespace

Outcome<ByteDfa> ByteDfa::from_table(std::vector<std::array<std::uint32_t, 256>> next, std::vector<bool> accepts) {
  const std::vector<bool> alive = alive_states(next, accepts);
  if (next.size() <= kStart || !alive[kStart]) return failure(ErrorKind::kInvalid, "no text can match it");
  for (auto& row : next) {
    for (std::uint32_t& to : row) to = alive[to] ? to : kDead;
  }
  ByteDfa dfa;
  std::map<std::vector<std::uint32_t>, std::uint8_t> class_of;
  std::vector<std::uint32_t> column(next.size());
  for (unsigned byte = 0; byte < 256; ++byte) {
    for (std::size_t state = 0; state < next.size(); ++state) column[state] = next[state][byte];
    dfa.classes_[byte] = class_of.try_emplace(column, static_cast<std::uint8_t>(class_of.size())).first->second;
  }
  dfa.class_count_ = static_cast<std::uint32_t>(class_of.size());
  dfa.next_.resize(next.size() * dfa.class_count_);
  for (std::size_t state = 0; state < next.size(); ++state) {
    for (unsigned byte = 0; byte < 256; ++byte)
      dfa.next_[state * dfa.class_count_ + dfa.classes_[byte]] = next[state][byte];
  }
  dfa.accepts_ = std::move(accepts);
  return dfa;
}

Outcome<ByteDfa> ByteDfa::with_length(std::uint32_t min, std::uint32_t max) const {
  constexpr std::uint32_t kNoMax = ~std::uint32_t{0};
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> number_of;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> states(1);
  std::vector<std::array<std::uint32_t, 256>> table(1);
  std::vector<bool> accepting(1, false);
  table[0].fill(kDead);
  const auto number = [&](std::uint32_t state, std::uint32_t count) -> std::uint32_t {
    if (state == kDead || (max != kNoMax && count > max)) return kDead;
    if (max == kNoMax) count = std::min(count, min);  // beyond that the count says nothing
    const auto [found, is_new] = number_of.try_emplace({state, count}, static_cast<std::uint32_t>(states.size()));
    if (is_new) states.emplace_back(state, count);
    return found->second;
  };
  number(kStart, 0);
  for (std::size_t i = 1; i < states.size(); ++i) {
    if (states.size() > kMaxStates) {
      return failure(ErrorKind::kInvalid,
                     "needs more than " + std::to_string(kMaxStates) + " states together with the length");
    }
    const auto [state, count] = states[i];
    table.emplace_back();
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool begins_character = (byte & 0xC0) != 0x80;
      const std::uint32_t to = number(next(state, static_cast<std::uint8_t>(byte)), count + (begins_character ? 1 : 0));
      table[i][byte] = to;
    }
    accepting.push_back(accepts(state) && count >= min);
  }
  return from_table(std::move(table), std::move(accepting));
}

ByteTrie::ByteTrie(std::vector<std::string> texts) : nodes_(1) {
  std::ranges::sort(texts);
  texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
  build(kRoot, texts, 0);
}

void ByteTrie::build(std::uint32_t node, std::span<const std::string> texts, std::size_t depth) {
  // Level by level, so that no long text needs a deep stack.
  struct Open {
    std::uint32_t node;
    std::span<const std::string> texts;
    std::size_t depth;
  };
  std::vector<Open> open{{node, texts, depth}};
  for (std::size_t i = 0; i < open.size(); ++i) {
    Open at = open[i];
    while (!at.texts.empty() && at.texts.front().size() == at.depth) {
      nodes_[at.node].ends = true;
      at.texts = at.texts.subspan(1);
    }
    nodes_[at.node].first_edge = static_cast<std::uint32_t>(edges_.size());
    while (!at.texts.empty()) {
      const char byte = at.texts.front()[at.depth];
      std::size_t count = 1;
      while (count < at.texts.size() && at.texts[count][at.depth] == byte) ++count;
      const auto child = static_cast<std::uint32_t>(nodes_.size());
      nodes_.emplace_back();
      edges_.push_back({static_cast<std::uint8_t>(byte), child});
      ++nodes_[at.node].edge_count;
      open.push_back({child, at.texts.first(count), at.depth + 1});
      at.texts = at.texts.subspan(count);
    }
  }
}

std::uint32_t ByteTrie::next(std::uint32_t node, std::uint8_t byte) const {
  const Node& at = nodes_[node];
  for (std::uint32_t i = at.first_edge; i < at.first_edge + at.edge_count; ++i) {
    if (edges_[i].byte == byte) return edges_[i].node;
  }
  return kNone;
}

}  // namespace consort::model
