#include "runtime/actor_table.hpp"

#include <algorithm>

#include "runtime/check.hpp"

namespace consort::runtime {
namespace {

std::uint64_t place_of(ActorId id) { return (std::uint64_t{id.type} << 32) | id.index; }

}  // namespace

std::uint16_t ActorTable::next_generation(std::uint64_t place) {
  auto& last = places_[place].last_generation;
  if (++last == 0) last = 1;  // 0 means "whoever lives there"
  return last;
}

ActorCell& ActorTable::create(std::uint16_t type, std::uint32_t index) {
  const auto place = place_of({type, 0, index});
  CONSORT_CHECK(places_[place].cell == nullptr, "an actor lives there already", type, index);
  cells_.push_back(std::make_unique<ActorCell>());
  ActorCell& cell = *cells_.back();
  cell.id = {type, next_generation(place), index};
  places_[place].cell = &cell;
  return cell;
}

void ActorTable::remove(ActorCell& cell) {
  places_[place_of(cell.id)].cell = nullptr;
  std::erase(roots_, &cell);
  if (cell.parent != nullptr) std::erase(cell.parent->children, &cell);
  std::erase_if(cells_, [&](const auto& owned) { return owned.get() == &cell; });
}

void ActorTable::renew(ActorCell& cell) { cell.id.generation = next_generation(place_of(cell.id)); }

ActorCell* ActorTable::find(ActorId id) const {
  const auto found = places_.find(place_of(id));
  if (found == places_.end() || found->second.cell == nullptr) return nullptr;
  ActorCell* cell = found->second.cell;
  if (cell->actor == nullptr || cell->ending) return nullptr;
  return id.generation == 0 || id.generation == cell->id.generation ? cell : nullptr;
}

ActorCell* ActorTable::find_exact(ActorId id) const { return id.generation == 0 ? nullptr : find(id); }

}  // namespace consort::runtime
