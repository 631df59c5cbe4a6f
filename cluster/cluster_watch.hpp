// ClusterWatch: looks at every node of the cluster when somebody asks, and not otherwise; and tells the Coordinator
// what an operator wants. Other threads speak to it through a WatchPort. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cluster/messages.hpp"
#include "runtime/actor.hpp"

namespace consort::cluster {

// What one look found.
struct ClusterPicture {
  runtime::Instant at;
  ClusterStatusReport report;                    // its view is never null
  std::map<runtime::NodeId, NodeFigures> nodes;  // of those that answered
};
using ClusterPicturePtr = std::shared_ptr<const ClusterPicture>;

class WatchPort {
 public:
  static constexpr std::size_t kMaxWaiting = 256;         // who looks is people and Prometheus: a handful
  using Looked = std::function<void(ClusterPicturePtr)>;  // null: nobody in the cluster answers
  using Drained = std::function<void(runtime::Status)>;

  // --- any thread: false where too many wait already. `then` is called on the watch's loop, or never where that ends.
  bool look(Looked then);
  bool drain(std::string node, Drained then);

  // --- the ClusterWatch
  struct Wish {
    Looked looked;
    std::string node;  // with drained
    Drained drained;
  };
  void attach(std::function<void()> wake);
  std::vector<Wish> take();

 private:
  bool put(Wish wish);
  mutable std::mutex mutex_;  // of all that follows
  std::function<void()> wake_;
  std::vector<Wish> waiting_;
};

// spawn_root on a client's loop that is connected to the Coordinator and all workers.
class ClusterWatch final : public runtime::ActorOf<ClusterWatch, runtime::Protocol<>> {
 public:
  // However many look, nodes are asked no more often than this.
  static constexpr runtime::Duration kFresh = std::chrono::milliseconds(900);

  ClusterWatch(std::vector<std::string> worker_names, std::shared_ptr<WatchPort> port);
  ~ClusterWatch() override;

 private:
  struct Round;
  void on_start() override;
  void take_wishes();
  void start_round();
  void ask_worker_for_status(std::size_t index);
  void finish_if_whole();
  void drain(const std::string& name, WatchPort::Drained then);

  const std::vector<std::string> worker_names_;  // in the order of their node ids
  const std::shared_ptr<WatchPort> port_;
  ClusterPicturePtr picture_;
  std::unique_ptr<Round> round_;
  std::vector<WatchPort::Looked> waiting_;
};

}  // namespace consort::cluster
