// JobProgress: how far a job is, for a person who watches: a bar that moves on a terminal, else a line now and then.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "runtime/time.hpp"

namespace consort::cli {

struct JobState {
  std::uint64_t lines = 0;  // of the job
  std::uint64_t done = 0;   // failed ones too
  std::uint64_t failed = 0;
  std::uint64_t open = 0;        // requests that are under way
  double tokens_per_second = 0;  // of late
  std::optional<std::chrono::seconds> left;
  std::string trouble;  // why nothing goes on now
};

// "[=====>    ] 120/400 lines, 2 failed, 812.3 tokens/s, 0:42 left"; without a bar where bar_columns is 0. Pure.
std::string progress_text(const JobState& state, std::size_t bar_columns);
// "0:42", "1:02:03"
std::string clock_text(std::chrono::seconds time);

class JobProgress {
 public:
  static constexpr runtime::Duration kDrawEvery = std::chrono::milliseconds(200);  // faster is unrest
  static constexpr runtime::Duration kSayEvery = std::chrono::seconds(10);         // in a log
  static constexpr runtime::Duration kWindow = std::chrono::seconds(10);           // that a rate is taken over

  // `done_before`: by earlier runs of the job, which say nothing about its pace now.
  JobProgress(bool on_terminal, std::uint64_t lines, std::uint64_t done_before);
  // `tokens`: made since this run began, also by requests that are still open.
  void look(runtime::Instant now, JobState state, std::uint64_t tokens);
  // The bar's last word.
  void end(runtime::Instant now, const JobState& state, std::uint64_t tokens);

 private:
  struct Sample {
    runtime::Instant at;
    std::uint64_t tokens = 0;
  };
  void estimate(runtime::Instant now, JobState& state, std::uint64_t tokens);
  void show(const JobState& state) const;

  const bool on_terminal_;
  const std::uint64_t lines_;
  const std::uint64_t done_before_;
  std::optional<runtime::Instant> begun_;
  std::optional<runtime::Instant> shown_;
  std::deque<Sample> samples_;  // a window of them
};

}  // namespace consort::cli
