#include "runtime/trace.hpp"

#include "support/test.hpp"

namespace consort::runtime {
namespace {

TraceEvent event_at(std::int64_t ns, std::int64_t a = 0) {
  return {.name = "turn", .track = "loop", .begin = Instant(Duration(ns)), .length = Duration(0), .a = a};
}

TEST_CASE("a trace records nothing until it is enabled") {
  Trace trace(4);
  trace.record(event_at(1));
  CHECK(trace.events().empty());
  trace.enable(true);
  trace.record(event_at(2));
  CHECK(trace.events().size() == 1);
}

TEST_CASE("a full trace forgets the oldest events first") {
  Trace trace(3);
  trace.enable(true);
  for (int i = 0; i < 8; ++i) trace.record(event_at(i, i));
  const auto events = trace.events();
  REQUIRE(events.size() == 3);
  CHECK(events[0].a == 5);
  CHECK(events[1].a == 6);
  CHECK(events[2].a == 7);
}

TEST_CASE("a Chrome trace names nodes and tracks and counts in microseconds") {
  NodeTrace node{.node = "de\"sk", .process = 7, .offset = Duration(1000), .events = {}};
  node.events.push_back({.name = "experts",
                         .track = "device",
                         .begin = Instant(Duration(1234567)),
                         .length = Duration(8901),
                         .a = 3,
                         .b = -4});
  node.events.push_back(event_at(5, 1));
  const std::string json = chrome_trace_json({node});
  CHECK(json ==
        "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n"
        "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":7,\"tid\":0,\"args\":{\"name\":\"de\\\"sk\"}},\n"
        "{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":7,\"tid\":1,\"args\":{\"name\":\"device\"}},\n"
        "{\"ph\":\"X\",\"name\":\"experts\",\"pid\":7,\"tid\":1,\"ts\":1235.567,\"dur\":8.901,"
        "\"args\":{\"a\":3,\"b\":-4}},\n"
        "{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":7,\"tid\":2,\"args\":{\"name\":\"loop\"}},\n"
        "{\"ph\":\"i\",\"s\":\"t\",\"name\":\"turn\",\"pid\":7,\"tid\":2,\"ts\":1.005,\"args\":{\"a\":1,\"b\":0}}\n"
        "]}\n");
}

}  // namespace
}  // namespace consort::runtime
