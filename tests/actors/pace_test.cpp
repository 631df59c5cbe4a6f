// Pace and admission: how many prompt rows run beside decoding ones, and who may join the queue.
#include "actors/serving/admission.hpp"
#include "actors/serving/step_pace.hpp"
#include "support/test.hpp"

using namespace consort;
using namespace consort::actors;
using namespace std::chrono_literals;

namespace {

// Steps of a machine whose step takes 10 ms, 0.1 ms for each decoding row and `row` for each of a prompt.
runtime::Duration step_time(std::uint32_t decode, std::uint32_t prompt, runtime::Duration row) {
  return 10ms + decode * 100us + prompt * row;
}

}  // namespace

TEST_CASE("a prompt alone runs in whole chunks, and beside decoding rows carefully until something is measured") {
  StepPace pace;
  CHECK(pace.prompt_rows(0, 512) == 512);
  CHECK(pace.prompt_rows(3, 512) == StepPace::kFirstPromptRows);
  CHECK(pace.prompt_rows(3, 4) == 4);
  CHECK(pace.rows_per_second() == 0);
}

TEST_CASE("prompt rows lengthen a step by the allowed share, whatever a row takes") {
  for (const runtime::Duration row : {runtime::Duration(20us), runtime::Duration(200us), runtime::Duration(700us)}) {
    CAPTURE(row.count());
    StepPace pace;
    for (int i = 0; i < 20; ++i) pace.measured(4, 0, step_time(4, 0, row));
    std::uint32_t rows = 0;
    for (int i = 0; i < 50; ++i) {
      rows = pace.prompt_rows(4, 2048);
      pace.measured(4, rows, step_time(4, rows, row));
    }
    const auto allowed = StepPace::kAllowedDelay * static_cast<double>(step_time(4, 0, row).count());
    const double delay = static_cast<double>((rows * row).count());
    CHECK(delay <= allowed * 1.02);
    CHECK(delay >= allowed * 0.85);
  }
}

TEST_CASE("the number of prompt rows stays within its bounds") {
  StepPace slow;
  slow.measured(4, 0, 1ms);
  for (int i = 0; i < 50; ++i) slow.measured(4, slow.prompt_rows(4, 512), 500ms);
  CHECK(slow.prompt_rows(4, 512) == StepPace::kLeastPromptRows);
  CHECK(slow.prompt_rows(4, 1) == 1);
  StepPace quick;
  quick.measured(4, 0, 10ms);
  for (int i = 0; i < 50; ++i) quick.measured(4, quick.prompt_rows(4, 512), 10ms);
  CHECK(quick.prompt_rows(4, 512) == 512);
}

TEST_CASE("a row that became slower is allowed fewer times") {
  StepPace pace;
  pace.measured(2, 0, 10ms);
  for (int i = 0; i < 50; ++i) pace.measured(2, 50, 10ms + 50 * 50us);
  const std::uint32_t before = pace.prompt_rows(2, 2048);
  for (int i = 0; i < 50; ++i) pace.measured(2, 50, 10ms + 50 * 200us);  // it attends to more positions
  CHECK(pace.prompt_rows(2, 2048) * 3 < before);
}

TEST_CASE("rows per second follow what was measured") {
  StepPace pace;
  for (int i = 0; i < 40; ++i) pace.measured(10, 0, 20ms);
  CHECK(pace.rows_per_second() == doctest::Approx(500));
}

TEST_CASE("an empty queue takes any request, a full one says when there will be room") {
  const QueueLimits limits{4, 1000};
  CHECK_FALSE(refuse({0, 0, 0}, limits, 5000));
  CHECK_FALSE(refuse({1, 500, 100}, limits, 500));
  const auto too_long = refuse({1, 500, 100}, limits, 801);
  REQUIRE(too_long);
  CHECK(too_long->come_again == 5s);  // of 500 tokens that wait one request of 500 must go first, at 100 a second
  const auto too_many = refuse({4, 400, 20}, limits, 10);
  REQUIRE(too_many);
  CHECK(too_many->come_again == 5s);  // one of them costs 100 tokens
  CHECK(refuse({4, 400, 0}, limits, 10)->come_again == kLeastComeAgain);
  CHECK(refuse({4, 400, 0.001}, limits, 10)->come_again == kMostComeAgain);
  CHECK(too_many->text.find("4 requests of 400 tokens") != std::string::npos);
}
