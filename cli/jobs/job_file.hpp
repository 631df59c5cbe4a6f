// JobFile: the TOML file that says what a job reads, where its answers go, and which cluster answers.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/outcome.hpp"
#include "runtime/time.hpp"

namespace consort::cli {

struct JobFile {
  std::string input;  // paths are relative to the file until it is read, then as they are opened
  std::string output;
  std::string cluster;                                    // its cluster file
  bool start_cluster = false;                             // where it is not up: bring it up, and down at the end
  std::uint32_t concurrency = 16;                         // requests that are open at once
  std::uint32_t retries = 5;                              // of a line whose request was lost with a node
  runtime::Duration patience = std::chrono::minutes(10);  // with a cluster that is busy or does not serve
};

// kInvalid with "file:line: key: what is wrong and what to do".
runtime::Outcome<JobFile> parse_job_file(std::string_view text, const std::string& path);
runtime::Outcome<JobFile> read_job_file(const std::string& path);

}  // namespace consort::cli
