// UsageLog: what was used, on disk. A kill loses what was added since the last commit, never anything before it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "cli/metering/usage.hpp"
#include "runtime/env.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

// --- the format ------------------------------------------------------------------------------------------------------
//   line := text ' ' crc32c of the text, 8 hex digits '\n'
//   text := "consort-usage 1"                                                     the first line
//         | "use" day key prompt cached completion reasoning requests failed milliseconds
//         | "up" day milliseconds                                                 the Gateway lived so long
// Lines add up: their order means nothing.
std::string usage_lines(const UsageSums& sums);  // without the first line
inline constexpr std::string_view kUsageHead = "consort-usage 1";

struct UsageScan {
  UsageSums sums;
  std::size_t damaged_lines = 0;  // whole lines that are not what was written
  std::size_t torn_bytes = 0;     // at the end, where a kill cut the last line short
};
// kInvalid: another version's.
runtime::Outcome<UsageScan> scan_usage(std::string_view text);

// What the file holds now, also while a Gateway writes to it; no file: nothing.
runtime::Outcome<UsageScan> read_usage(const std::string& path);

// --- the log ---------------------------------------------------------------------------------------------------------
class UsageLog {
 public:
  struct Ways {
    std::function<void(std::function<void()>)> here;   // from any thread to the one that owns the log
    std::function<void(std::function<void()>)> aside;  // from there to one that may wait for the disk
    std::function<void(const std::string&)> say;       // what whoever is on call should know
  };
  // Start-up: sums up what earlier lives left, and writes it anew as one line per day and key. A torn end goes; where
  // lines are damaged the file stays as it is, so that nobody's evidence is lost. `disk` outlives the log.
  static runtime::Outcome<std::unique_ptr<UsageLog>> open(runtime::Disk& disk, std::string path, Ways ways);
  ~UsageLog();

  // All that is in the file or on its way there.
  const UsageSums& sums() const { return sums_; }
  void add(UtcDay day, const std::string& key, const Usage& usage);
  void add_up(UtcDay day, std::uint64_t milliseconds);
  // Brings what was added to disk, in one write with one sync; while one is under way, with the next.
  void commit();

 private:
  UsageLog(runtime::Disk& disk, std::string path, Ways ways);
  void committed(const runtime::Status& status, const UsageSums& what);
  void rewrite();

  runtime::Disk& disk_;
  const std::string path_;
  const Ways ways_;
  std::unique_ptr<runtime::DiskFile> file_;
  UsageSums sums_;
  UsageSums pending_;
  std::size_t appended_bytes_ = 0;  // since the file was last rewritten
  bool is_damaged_ = false;
  bool is_busy_ = false;
  bool had_trouble_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace consort::cli
