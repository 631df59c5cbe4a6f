// FaultPlan: which faults fall at which events of a simulated run; as text, "crash garage at 1200; pause attic 1s at
// 2000". SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cli/simulate/sim_cluster.hpp"
#include "runtime/outcome.hpp"
#include "runtime/time.hpp"

namespace consort::cli {

enum class FaultKind : std::uint8_t {
  kCrash,    // the process ends as by SIGKILL
  kPause,    // as by SIGSTOP, for `time`
  kBreak,    // the data connection between two nodes ends; both ends notice
  kPart,     // nothing gets from `process` to `other` for `time`, on both wires, both ways
  kStall,    // what goes from `process` to `other` arrives after `time`
  kCorrupt,  // one bit of the next frame from `process` to `other`, which ends its connection
  kSlow,     // everything that `process` does takes ten times as long, for `time`
};

struct Fault {
  FaultKind kind = FaultKind::kCrash;
  std::string process;
  std::string other;  // of link faults
  runtime::Duration time{0};
  std::uint64_t event = 0;  // events after the plan was laid
};

struct FaultPlan {
  std::vector<Fault> faults;

  // fault ("; " fault)*;  fault := "crash" P "at" N | "pause" P T "at" N | "break" P P "at" N | "part" P P T "at" N |
  //                                 "stall" P P T "at" N | "corrupt" P P "at" N | "slow" P T "at" N
  static runtime::Outcome<FaultPlan> parse(std::string_view text, const ProcessList& processes);
  // One to three faults of any kind, from a seed, within the first `events` events.
  static FaultPlan random(std::uint64_t seed, const ProcessList& processes, std::uint64_t events);
  std::string describe() const;  // what parse() reads

  // Sets the faults on the world, counted from now. A process that does not live then is left alone.
  void lay(SimCluster& cluster) const;
};

// Does it now.
void inflict(SimCluster& cluster, const Fault& fault);

}  // namespace consort::cli
