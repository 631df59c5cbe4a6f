// JobRecord: a job's output file, which is also what it knows of itself: whoever has a whole line there is done.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cli/jobs/job_input.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

// Lines are only ever appended, and synced before they count. What a kill or a power loss left half written at the end
// is cut off when the job goes on. Beside the output lies "<output>.job" with the digest of the input that it answers.
class JobRecord {
 public:
  struct Totals {
    std::uint64_t lines = 0;
    std::uint64_t failed = 0;
    std::uint64_t prompt_tokens = 0;
    std::uint64_t completion_tokens = 0;
  };

  // Takes up what is there. kInvalid where it is not this input's, or another process works on it.
  static runtime::Outcome<JobRecord> open(const std::string& path, const JobInput& input);
  ~JobRecord();
  JobRecord(JobRecord&& other) noexcept;
  JobRecord& operator=(JobRecord&&) = delete;

  bool is_done(std::size_t index) const { return done_[index]; }
  const Totals& totals() const { return totals_; }
  std::uint64_t cut_bytes() const { return cut_bytes_; }  // of a torn end, when it was opened
  // Whole lines, answers to these requests; durable when it returns.
  struct Line {
    std::size_t index = 0;
    JobAnswer answer;
  };
  runtime::Status append(const std::vector<Line>& lines);

  // What the job notes beside the digest: the first agent's pid of a cluster that it started and must take down, -1
  // while it starts one, 0 where there is none.
  int started_agent() const { return started_agent_; }
  runtime::Status note_started_agent(int pid);

 private:
  JobRecord(std::string path, const JobInput& input) : path_(std::move(path)), input_(&input), done_(input.size()) {}
  runtime::Status claim();
  runtime::Status read_note();
  runtime::Status write_note() const;
  runtime::Status take_up();
  runtime::Status take_line(std::string_view text, bool& is_ours);
  void count(const AnswerRecord& record);

  std::string path_;
  const JobInput* input_;
  int file_ = -1;
  std::vector<bool> done_;
  Totals totals_;
  std::uint64_t cut_bytes_ = 0;
  int started_agent_ = 0;
};

}  // namespace consort::cli
