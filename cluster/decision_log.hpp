// DecisionLog: what the Coordinator decided, append-only and checksummed, on disk before anyone is told.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "cluster/view.hpp"
#include "runtime/env.hpp"
#include "runtime/outcome.hpp"

namespace consort::cluster {

// One life of the Coordinator; also its incarnation.
struct TermStarted {
  runtime::Incarnation term;
  std::string manifest;  // of the model: a log serves one model
};
struct NumericPlanDecided {
  NumericPlan plan;
};
struct NodeIncarnated {
  runtime::NodeId node;
  runtime::Incarnation incarnation;
  std::uint64_t boot = 0;  // drawn by the process that joined: a repeated Join finds its answer here
};
struct PlacementDecided {
  runtime::Epoch epoch;
  PlacementTable placement;
  std::uint32_t shape = 0;  // of the config that it was decided for: nodes, their memory, replicas
  runtime::Epoch decided;   // when the table was decided; 0: with `epoch`
};
// The incarnation is over; what it held has a new epoch.
struct NodeDied {
  runtime::NodeId node;
  runtime::Incarnation incarnation;
  runtime::Epoch epoch;
  std::string why;
};
struct NodeLeft {
  runtime::NodeId node;
};
using Decision = std::variant<TermStarted, NumericPlanDecided, NodeIncarnated, PlacementDecided, NodeDied, NodeLeft>;

// The sum of all decisions.
struct DecidedState {
  struct Node {
    runtime::Incarnation incarnation;  // the latest given; never given again
    std::uint64_t boot = 0;
    bool dead = false;  // that life is over
    bool left = false;
  };
  runtime::Incarnation term;
  std::string manifest;
  std::optional<NumericPlan> numeric_plan;
  std::map<runtime::NodeId, Node> nodes;
  runtime::Epoch epoch;
  runtime::Epoch placement_epoch;  // when `placement` was decided; parts loaded since then are the right ones
  std::uint32_t placement_shape = 0;
  PlacementTable placement;

  void apply(const Decision& decision);
};

class DecisionLog {
 public:
  // Reads the file (none: an empty log). A record that a crash cut short at the end is cut off; damage before it is
  // refused in words. Start-up only: it may wait for the disk. Rewrites the file where it has grown past its content.
  static runtime::Outcome<std::unique_ptr<DecisionLog>> open(runtime::Disk& disk, const std::string& path);

  const DecidedState& recovered() const { return recovered_; }
  std::uint64_t cut_bytes() const { return cut_bytes_; }
  // `done` when the record would survive a power cut; in order of the calls.
  void append(const Decision& decision, std::function<void(runtime::Status)> done);

 private:
  DecisionLog() = default;
  std::unique_ptr<runtime::DiskFile> file_;
  DecidedState recovered_;
  std::uint64_t next_sequence_ = 1;
  std::uint64_t cut_bytes_ = 0;
};

// --- the format, for the log and its tests ---------------------------------------------------------------------------
//   record := magic u32 | length u32 | sequence u64 | crc32c u32 of all that follows the crc, and of length and
//   sequence
//             | zero u32 | decision (one Cap'n Proto segment, LogRecord), padded to 8 bytes
inline constexpr std::uint32_t kRecordMagic = 0xC0115E57;
inline constexpr std::size_t kRecordHeaderBytes = 24;
std::vector<std::byte> encode_record(std::uint64_t sequence, const Decision& decision);
struct LogScan {
  std::vector<Decision> decisions;
  std::uint64_t next_sequence = 1;
  std::size_t valid_bytes = 0;  // what follows was cut short by a crash
};
runtime::Outcome<LogScan> scan_log(std::span<const std::byte> bytes);

}  // namespace consort::cluster
