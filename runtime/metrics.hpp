// Metrics: cells that a loop counts in without locks, and the snapshot that other threads read.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/env.hpp"

namespace consort::runtime {

// Cells belong to their loop's thread: an add is an add. Nobody else reads them but Metrics::publish on that thread.
class Counter {
 public:
  void add(std::uint64_t count = 1) { value_ += count; }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0;
};

class Gauge {
 public:
  void set(std::int64_t value) { value_ = value; }
  void add(std::int64_t by) { value_ += by; }
  std::int64_t value() const { return value_; }

 private:
  std::int64_t value_ = 0;
};

// Buckets double from 1 to 2^38 (of whatever unit the name says; in ns: 275 s), the last takes the rest. Bucket i holds
// the values up to 2^i that are above 2^(i-1).
class Histogram {
 public:
  static constexpr std::size_t kBuckets = 40;
  void record(std::int64_t value);
  void record(Duration value) { record(value.count()); }
  const std::array<std::uint64_t, kBuckets>& buckets() const { return buckets_; }
  std::uint64_t count() const { return count_; }
  std::int64_t sum() const { return sum_; }
  std::int64_t largest() const { return largest_; }

 private:
  std::array<std::uint64_t, kBuckets> buckets_{};
  std::uint64_t count_ = 0;
  std::int64_t sum_ = 0;
  std::int64_t largest_ = 0;
};

struct MetricsSnapshot {
  Instant at;
  struct Number {
    std::string name;
    std::int64_t value = 0;
  };
  struct Spread {
    std::string name;
    Histogram histogram;
    // The bound of the bucket in which the q-th of the values lies; 0 where there is none.
    std::int64_t quantile(double q) const;
  };
  std::vector<Number> numbers;  // counters and gauges, in the order of their making
  std::vector<Spread> spreads;
};

// The cells of one loop. Made and counted in on its thread; snapshot() from any.
class Metrics {
 public:
  static constexpr Duration kPublishEvery = std::chrono::seconds(1);  // what a person who watches can use

  Metrics(const Clock& clock, Timers& timers) : clock_(clock), timers_(timers) {}
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Names say the unit: "turns_total", "ask_wait_ns". Cells live as long as this.
  Counter& counter(std::string name);
  Gauge& gauge(std::string name);
  Histogram& histogram(std::string name);

  void start();                                             // publishes now and then every second, on the loop
  void publish();                                           // now
  std::shared_ptr<const MetricsSnapshot> snapshot() const;  // the last one published; never null

 private:
  template <class Cell>
  struct Named {
    std::string name;
    Cell cell;
  };
  const Clock& clock_;
  Timers& timers_;
  TimerId timer_ = 0;
  std::deque<Named<Counter>> counters_;  // deques: a cell stays where it is
  std::deque<Named<Gauge>> gauges_;
  std::deque<Named<Histogram>> histograms_;
  mutable std::mutex mutex_;  // of published_ alone
  std::shared_ptr<const MetricsSnapshot> published_ = std::make_shared<MetricsSnapshot>();
};

}  // namespace consort::runtime
