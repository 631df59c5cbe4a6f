#include "runtime/trace.hpp"

#include <cstdio>
#include <map>

#include "runtime/check.hpp"

namespace consort::runtime {
namespace {

void append_quoted(std::string& json, std::string_view text) {
  json += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      json += '\\';
      json += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
      json += escape;
    } else {
      json += c;
    }
  }
  json += '"';
}

// Chrome counts in microseconds; three decimals keep every nanosecond.
void append_microseconds(std::string& json, std::int64_t ns) {
  char text[32];
  const bool negative = ns < 0;
  const std::uint64_t size = negative ? 0 - static_cast<std::uint64_t>(ns) : static_cast<std::uint64_t>(ns);
  std::snprintf(text, sizeof text, "%s%llu.%03llu", negative ? "-" : "", static_cast<unsigned long long>(size / 1000),
                static_cast<unsigned long long>(size % 1000));
  json += text;
}

void append_name(std::string& json, std::string_view what, std::uint32_t process, std::size_t thread,
                 std::string_view name) {
  json += json.back() == '[' ? "\n" : ",\n";
  json += "{\"ph\":\"M\",\"name\":";
  append_quoted(json, what);
  json += ",\"pid\":" + std::to_string(process) + ",\"tid\":" + std::to_string(thread) + ",\"args\":{\"name\":";
  append_quoted(json, name);
  json += "}}";
}

void append_event(std::string& json, const TraceEvent& event, std::uint32_t process, std::size_t thread,
                  Duration offset) {
  json += ",\n{\"ph\":";
  json += event.length.count() > 0 ? "\"X\"" : "\"i\",\"s\":\"t\"";
  json += ",\"name\":";
  append_quoted(json, event.name);
  json += ",\"pid\":" + std::to_string(process) + ",\"tid\":" + std::to_string(thread) + ",\"ts\":";
  append_microseconds(json, (event.begin.time_since_epoch() + offset).count());
  if (event.length.count() > 0) {
    json += ",\"dur\":";
    append_microseconds(json, event.length.count());
  }
  json += ",\"args\":{\"a\":" + std::to_string(event.a) + ",\"b\":" + std::to_string(event.b) + "}}";
}

}  // namespace

Trace::Trace(std::size_t capacity) : capacity_(capacity) { CONSORT_CHECK(capacity > 0); }

void Trace::enable(bool on) { enabled_.store(on, std::memory_order_relaxed); }

bool Trace::enabled() const { return enabled_.load(std::memory_order_relaxed); }

void Trace::record(TraceEvent event) {
  if (!enabled()) return;
  const std::lock_guard lock(mutex_);
  if (ring_.size() < capacity_) {
    ring_.push_back(event);
  } else {
    ring_[next_] = event;
    next_ = (next_ + 1) % capacity_;
  }
}

std::vector<TraceEvent> Trace::events() const {
  const std::lock_guard lock(mutex_);
  std::vector<TraceEvent> in_order;
  in_order.reserve(ring_.size());
  for (std::size_t i = 0; i < ring_.size(); ++i) in_order.push_back(ring_[(next_ + i) % ring_.size()]);
  return in_order;
}

std::string chrome_trace_json(const std::vector<NodeTrace>& nodes) {
  std::string json = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
  for (const NodeTrace& node : nodes) {
    append_name(json, "process_name", node.process, 0, node.node);
    std::map<std::string_view, std::size_t> threads;
    for (const TraceEvent& event : node.events) {
      const auto [thread, is_new] = threads.try_emplace(event.track, threads.size() + 1);
      if (is_new) append_name(json, "thread_name", node.process, thread->second, event.track);
      append_event(json, event, node.process, thread->second, node.offset);
    }
  }
  json += "\n]}\n";
  return json;
}

}  // namespace consort::runtime
