// JobInput: the lines of a job's input file, checked as a whole before the first is worked on, and read one by one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/jobs/job_line.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

class JobInput {
 public:
  static constexpr std::size_t kMaxLines = 10'000'000;  // an entry takes some hundred bytes of memory
  static constexpr std::size_t kMaxLineBytes =
      (4u << 20) + 4096;                              // the HTTP service's largest body, and what is around
  static constexpr std::size_t kMostWrongLines = 20;  // are told; who has more has them for one reason

  // Reads it once. kInvalid names every line (up to kMostWrongLines) that is not in the batch format or repeats a
  // custom_id. Empty lines are passed over, and counted in the numbers of others.
  static runtime::Outcome<JobInput> open(const std::string& path);
  ~JobInput();
  JobInput(JobInput&& other) noexcept;
  JobInput& operator=(JobInput&&) = delete;

  const std::string& path() const { return path_; }
  const std::string& digest() const { return digest_; }      // SHA-256 of the file
  std::string job() const { return digest_.substr(0, 16); }  // what the ids of its answers hold
  std::size_t size() const { return entries_.size(); }       // requests
  std::uint64_t line_number(std::size_t index) const { return entries_[index].number; }
  const std::string& custom_id(std::size_t index) const { return entries_[index].custom_id; }
  // The request on this line of the file; size() where there is none.
  std::size_t find_line(std::uint64_t number) const;
  // Read again from the file; kInvalid where it has changed since.
  runtime::Outcome<JobLine> read(std::size_t index) const;

 private:
  struct Entry {
    std::uint64_t number = 0;
    std::uint64_t offset = 0;
    std::uint32_t bytes = 0;
    std::uint32_t crc = 0;
    std::string custom_id;
  };
  explicit JobInput(std::string path) : path_(std::move(path)) {}
  runtime::Status scan();

  std::string path_;
  int file_ = -1;
  std::string digest_;
  std::vector<Entry> entries_;
};

}  // namespace consort::cli
