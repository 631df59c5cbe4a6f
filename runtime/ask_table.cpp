#include "runtime/ask_table.hpp"

#include <utility>

#include "runtime/check.hpp"

namespace consort::runtime {

std::uint64_t AskTable::open(Ask ask) {
  std::uint32_t index;
  if (!free_.empty()) {
    index = free_.back();
    free_.pop_back();
  } else {
    if (slots_.size() >= limit_) return 0;
    index = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
  }
  Slot& slot = slots_[index];
  slot.ask.emplace(std::move(ask));
  return name(slot.generation, index);
}

AskTable::Ask* AskTable::find(std::uint64_t name) {
  const auto index = static_cast<std::uint32_t>(name);
  if (index >= slots_.size()) return nullptr;
  Slot& slot = slots_[index];
  if (slot.generation != static_cast<std::uint32_t>(name >> 32) || !slot.ask) return nullptr;
  return &*slot.ask;
}

AskTable::Ask AskTable::close(std::uint64_t name) {
  CONSORT_CHECK(find(name) != nullptr, name);
  const auto index = static_cast<std::uint32_t>(name);
  Slot& slot = slots_[index];
  Ask ask = std::move(*slot.ask);
  slot.ask.reset();
  ++slot.generation;
  if (slot.generation == 0) slot.generation = 1;  // so that no correlation is 0
  free_.push_back(index);
  return ask;
}

template <class Wanted>
std::vector<std::uint64_t> AskTable::all(Wanted wanted) const {
  std::vector<std::uint64_t> names;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].ask && wanted(*slots_[i].ask)) names.push_back(name(slots_[i].generation, i));
  }
  return names;
}

std::vector<std::uint64_t> AskTable::of_asker(ActorId asker) const {
  return all([&](const Ask& ask) { return ask.asker == asker; });
}

std::vector<std::uint64_t> AskTable::at_node(NodeId node) const {
  return all([&](const Ask& ask) { return ask.remote && ask.target.node == node; });
}

}  // namespace consort::runtime
