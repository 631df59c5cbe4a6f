#include "runtime/ready_list.hpp"

#include <algorithm>

namespace consort::runtime {

void ReadyList::add(ActorCell& cell, MessageClass message_class) {
  const auto c = static_cast<std::size_t>(message_class);
  if (cell.listed[c]) return;
  cell.listed[c] = true;
  ready_[c].push_back(&cell);
}

void ReadyList::remove(ActorCell& cell) {
  for (std::size_t c = 0; c < ready_.size(); ++c) {
    if (!cell.listed[c]) continue;
    cell.listed[c] = false;
    std::erase(ready_[c], &cell);
  }
}

bool ReadyList::empty() const {
  return std::all_of(ready_.begin(), ready_.end(), [](const auto& list) { return list.empty(); });
}

std::optional<std::size_t> ReadyList::due_class() {
  if (!ready_[0].empty()) return 0;
  for (int round = 0; round < 2; ++round) {
    for (std::size_t c = 1; c < ready_.size(); ++c) {
      if (!ready_[c].empty() && turns_left_[c] > 0) {
        --turns_left_[c];
        return c;
      }
    }
    turns_left_ = kTurns;  // whoever is ready has used its share
  }
  return std::nullopt;
}

std::optional<ReadyList::Next> ReadyList::take(Rng* rng) {
  const auto c = due_class();
  if (!c) return std::nullopt;
  auto& list = ready_[*c];
  const std::size_t at = rng == nullptr || list.size() == 1 ? 0 : static_cast<std::size_t>(rng->below(list.size()));
  ActorCell* cell = list[at];
  list.erase(list.begin() + static_cast<std::ptrdiff_t>(at));
  cell->listed[*c] = false;
  return Next{cell, static_cast<MessageClass>(*c)};
}

}  // namespace consort::runtime
