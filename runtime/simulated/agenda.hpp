// Agenda: what will happen in a simulated world, by virtual time and then by order of scheduling.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/time.hpp"

namespace consort::runtime {

// What an entry stands for; `item` is a number of its own. Process is the index of the process that it happens to.
enum class Happening : std::uint8_t {
  kTurn,       // a loop runs one ready actor
  kTimer,      // a loop's earliest timer may be due
  kParcel,     // a lane's first parcel arrives; item: lane
  kSignal,     // a link hears about a connection; item: connection and signal
  kDevice,     // a device ends a piece of work
  kDisk,       // a disk ends a sync
  kStart,      // a process begins
  kExit,       // a parent hears that its child ended; item: index of the exit
  kReconnect,  // a control link tries again; item: connection
  kResume,     // a paused process goes on
  kAction,     // something that a scenario planned; item: index of the action
};

struct AgendaEntry {
  Instant time;
  std::uint64_t order = 0;
  std::uint64_t item = 0;
  std::uint32_t process = 0;
  Happening what = Happening::kTurn;
};

class Agenda {
 public:
  bool empty() const { return heap_.empty(); }
  std::size_t size() const { return heap_.size(); }
  void add(Instant time, Happening what, std::uint32_t process, std::uint64_t item = 0) {
    heap_.push_back({time, next_order_++, item, process, what});
    std::push_heap(heap_.begin(), heap_.end(), later);
  }
  const AgendaEntry& first() const { return heap_.front(); }
  AgendaEntry take() {
    std::pop_heap(heap_.begin(), heap_.end(), later);
    const AgendaEntry entry = heap_.back();
    heap_.pop_back();
    return entry;
  }

 private:
  static bool later(const AgendaEntry& a, const AgendaEntry& b) {
    return a.time != b.time ? a.time > b.time : a.order > b.order;
  }
  std::vector<AgendaEntry> heap_;
  std::uint64_t next_order_ = 0;
};

}  // namespace consort::runtime
