// The main of every test binary: runs doctest and ends with "N passed, M failed, K skipped".
// SPDX-License-Identifier: Apache-2.0
#define DOCTEST_CONFIG_IMPLEMENT
#include "support/test.hpp"

#include <cstdio>
#include <string>
#include <vector>

namespace consort::tests {
namespace {

struct Tally {
  int passed = 0;
  int failed = 0;
  std::string running;
  std::string skip_reason;
  std::vector<std::string> skipped;
};

Tally& tally() {
  static Tally instance;
  return instance;
}

// Counts test cases: a failed check outweighs a skip.
struct TallyListener : doctest::IReporter {
  explicit TallyListener(const doctest::ContextOptions&) {}
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_start(const doctest::TestCaseData& data) override {
    tally().running = data.m_name;
    tally().skip_reason.clear();
  }
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
    if (!stats.testCaseSuccess) {
      ++tally().failed;
    } else if (!tally().skip_reason.empty()) {
      tally().skipped.push_back(tally().running + ": " + tally().skip_reason);
    } else {
      ++tally().passed;
    }
  }
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};

REGISTER_LISTENER("tally", 1, TallyListener);

}  // namespace

void note_skipped(const std::string& reason) { tally().skip_reason = reason; }

}  // namespace consort::tests

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  const int result = context.run();
  if (context.shouldExit()) return result;
  const auto& tally = consort::tests::tally();
  for (const auto& line : tally.skipped) std::printf("skipped: %s\n", line.c_str());
  std::printf("%d passed, %d failed, %zu skipped\n", tally.passed, tally.failed, tally.skipped.size());
  return result;
}
