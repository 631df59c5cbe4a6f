#include "runtime/metrics.hpp"

#include "support/manual_env.hpp"
#include "support/test.hpp"

namespace consort::tests {
namespace {

using namespace runtime;
using namespace std::chrono_literals;

TEST_CASE("cells are published once per second, as they were at that moment") {
  ManualNode node;
  Metrics metrics(node.clock, node.loop);
  Counter& asks = metrics.counter("asks_total");
  Gauge& queued = metrics.gauge("queued");
  CHECK(metrics.snapshot()->numbers.empty());
  metrics.start();
  asks.add(3);
  queued.set(-2);
  CHECK(metrics.snapshot()->numbers[0].value == 0);
  node.pass(999ms);
  CHECK(metrics.snapshot()->numbers[0].value == 0);
  node.pass(1ms);
  const auto snapshot = metrics.snapshot();
  REQUIRE(snapshot->numbers.size() == 2);
  CHECK(snapshot->numbers[0].name == "asks_total");
  CHECK(snapshot->numbers[0].value == 3);
  CHECK(snapshot->numbers[1].value == -2);
  asks.add();
  CHECK(snapshot->numbers[0].value == 3);
  node.pass(1s);
  CHECK(metrics.snapshot()->numbers[0].value == 4);
}

TEST_CASE("a histogram's buckets end at powers of two and its quantiles are bounds of buckets") {
  Histogram histogram;
  for (const std::int64_t value : {0, 1, 2, 3, 4, 5, 1024, 1025}) histogram.record(value);
  histogram.record(std::int64_t{1} << 60);
  histogram.record(std::int64_t{-5});
  CHECK(histogram.buckets()[0] == 3);
  CHECK(histogram.buckets()[1] == 1);
  CHECK(histogram.buckets()[2] == 2);
  CHECK(histogram.buckets()[3] == 1);
  CHECK(histogram.buckets()[10] == 1);
  CHECK(histogram.buckets()[11] == 1);
  CHECK(histogram.buckets()[Histogram::kBuckets - 1] == 1);
  CHECK(histogram.count() == 10);
  const MetricsSnapshot::Spread spread{"x_ns", histogram};
  CHECK(spread.quantile(0.3) == 1);
  CHECK(spread.quantile(0.5) == 4);
  CHECK(spread.quantile(0.9) == 2048);
  CHECK(spread.quantile(1.0) == std::int64_t{1} << 60);
  CHECK(MetricsSnapshot::Spread{}.quantile(0.5) == 0);
}

TEST_CASE("metrics that end take their timer with them") {
  ManualNode node;
  {
    Metrics metrics(node.clock, node.loop);
    metrics.start();
    CHECK(node.loop.next_timer().has_value());
  }
  CHECK_FALSE(node.loop.next_timer().has_value());
}

}  // namespace
}  // namespace consort::tests
