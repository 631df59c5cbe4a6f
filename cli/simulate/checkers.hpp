// Checkers: what must hold in a simulated cluster whatever fails (design, section 6), looked at after every event.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "actors/experts/pass_observer.hpp"
#include "cli/simulate/part_reference.hpp"
#include "cli/simulate/sim_cluster.hpp"

namespace consort::cli {

// A broken promise: which checker saw it, and in which event of the world.
struct Violation {
  std::string checker;
  std::uint64_t event = 0;
  std::string text;
};

// Tokens by request, of the run without faults.
using TokensByRequest = std::vector<std::vector<actors::GeneratedToken>>;

// Made before its cluster (as its pass_observer), attached to it before anything happens. The checkers, by name:
//   tokens         stream without gap, and each is that of the fault-free run: id and logits_crc
//   ends           each accepted request ends once; in words only where its Batcher died
//   parts          parts combined are the parts routed: each row of outputs has the bits that its expert and cut give,
//                  and each pass is answered and combined once
//   dead lives     no frame of a life that the receiver's view calls over is taken
//   incarnations   no life is given to two processes
//   log            what was acknowledged or told is on the Coordinator's disk, then and for ever
//   stopped        a stopped process does nothing
//   rest           credits, slots, pages, buffers and asks return to where they were
class Checkers final : public actors::PassObserver {
 public:
  explicit Checkers(std::shared_ptr<PartReference> reference) : reference_(std::move(reference)) {}
  void attach(SimCluster& cluster, const TokensByRequest* fault_free);

  // After the requests have ended: those of `first` and later ones whose Batcher's process still lives must be whole.
  void look_at_ends();
  // Called when the cluster is restored, or should have been.
  void look_at_rest();
  void fail(std::string checker, std::string text);
  const std::vector<Violation>& violations() const { return violations_; }

  void on_answered(const actors::RoutePass& pass, const actors::RoutedOutputs& outputs) override;
  void on_combined(const actors::DispatchKey& key, const model::PartOutputs& outputs) override;

 private:
  struct Answer {
    std::vector<std::uint64_t> prints;  // [rows, top_k, ranges]; 0 for rows that are not to be combined
    bool combined = false;
  };
  // What one worker's process knows.
  struct Known {
    cluster::ClusterViewPtr view;
    runtime::Incarnation life;
    std::uint64_t received = 0;
    std::map<runtime::NodeId, runtime::Incarnation> latest;  // of the others, by its views
    std::map<runtime::NodeId, runtime::Incarnation> over;
  };

  void look(const runtime::SimEvent& event);
  void look_at_tokens();
  void look_at_worker(const runtime::SimEvent& event, const runtime::SimProcess& process, Worker& worker);
  void note_view(Known& known, const cluster::ClusterViewPtr& view);
  void look_at_log();

  const std::shared_ptr<PartReference> reference_;
  SimCluster* cluster_ = nullptr;
  const TokensByRequest* fault_free_ = nullptr;
  std::vector<Violation> violations_;
  std::vector<std::size_t> tokens_seen_;
  std::size_t ends_told_ = 0;  // GenerationEnded that came to the client
  std::map<actors::DispatchKey, Answer> answers_;
  model::NumericPlan plan_;
  std::map<std::uint32_t, Known> known_;  // by process
  std::map<std::pair<runtime::NodeId, runtime::Incarnation>, std::uint32_t> lives_;
  // Acknowledged or told by any Coordinator so far.
  cluster::DecidedState told_;
};

}  // namespace consort::cli
