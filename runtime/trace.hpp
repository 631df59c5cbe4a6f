// Trace: spans and instants of a node, kept in a ring, written as Chrome trace JSON.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/time.hpp"

namespace consort::runtime {

struct TraceEvent {
  std::string_view name;   // a literal
  std::string_view track;  // a literal: "loop", "device", "wire", ...
  Instant begin;
  Duration length{0};  // 0: an instant
  std::int64_t a = 0;  // two numbers of the event's own (layer, correlation, bytes)
  std::int64_t b = 0;
};

// Bounded; the oldest events go first. Thread safe (device threads record too). Off until enabled.
class Trace {
 public:
  explicit Trace(std::size_t capacity = 1u << 16);
  void enable(bool on);
  bool enabled() const;
  void record(TraceEvent event);
  std::vector<TraceEvent> events() const;

 private:
  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::atomic<bool> enabled_{false};
  std::size_t next_ = 0;
  std::vector<TraceEvent> ring_;
};

// Chrome trace JSON of several nodes: one process per node, one thread per track. offset is added to each node's times.
struct NodeTrace {
  std::string node;
  std::uint32_t process = 0;
  Duration offset{0};
  std::vector<TraceEvent> events;
};
std::string chrome_trace_json(const std::vector<NodeTrace>& nodes);

}  // namespace consort::runtime
