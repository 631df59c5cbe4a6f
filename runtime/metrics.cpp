#include "runtime/metrics.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace consort::runtime {

void Histogram::record(std::int64_t value) {
  value = std::max<std::int64_t>(value, 0);
  const auto bucket = value <= 1 ? 0 : static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(value - 1)));
  ++buckets_[std::min(bucket, kBuckets - 1)];
  ++count_;
  sum_ += value;
  largest_ = std::max(largest_, value);
}

std::int64_t MetricsSnapshot::Spread::quantile(double q) const {
  if (histogram.count() == 0) return 0;
  const auto wanted = static_cast<std::uint64_t>(std::ceil(q * static_cast<double>(histogram.count())));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i + 1 < Histogram::kBuckets; ++i) {
    seen += histogram.buckets()[i];
    if (seen >= std::max<std::uint64_t>(wanted, 1)) return std::min(std::int64_t{1} << i, histogram.largest());
  }
  return histogram.largest();
}

Metrics::~Metrics() { timers_.cancel(timer_); }

Counter& Metrics::counter(std::string name) { return counters_.emplace_back(Named<Counter>{std::move(name), {}}).cell; }
Gauge& Metrics::gauge(std::string name) { return gauges_.emplace_back(Named<Gauge>{std::move(name), {}}).cell; }
Histogram& Metrics::histogram(std::string name) {
  return histograms_.emplace_back(Named<Histogram>{std::move(name), {}}).cell;
}

void Metrics::start() {
  publish();
  timers_.cancel(timer_);
  timer_ = timers_.at(clock_.now() + kPublishEvery, [this] {
    timer_ = 0;
    start();
  });
}

void Metrics::publish() {
  auto snapshot = std::make_shared<MetricsSnapshot>();
  snapshot->at = clock_.now();
  for (const auto& c : counters_) snapshot->numbers.push_back({c.name, static_cast<std::int64_t>(c.cell.value())});
  for (const auto& g : gauges_) snapshot->numbers.push_back({g.name, g.cell.value()});
  for (const auto& h : histograms_) snapshot->spreads.push_back({h.name, h.cell});
  const std::lock_guard lock(mutex_);
  published_ = std::move(snapshot);
}

std::shared_ptr<const MetricsSnapshot> Metrics::snapshot() const {
  const std::lock_guard lock(mutex_);
  return published_;
}

}  // namespace consort::runtime
