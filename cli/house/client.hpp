// Client: this process as an operator of a cluster that is up: a control link, a loop, and asks that wait.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include "actors/serving/generation_client.hpp"
#include "actors/serving/generation_messages.hpp"
#include "cli/house/cluster_state.hpp"
#include "cluster/messages.hpp"
#include "runtime/actor.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

class Client {
 public:
  // Connects to every process that the state folder names; whether they live shows when they are asked.
  static runtime::Outcome<std::unique_ptr<Client>> open(const ClusterState& state);
  ~Client();

  // Turns the loop until `done` holds; false: the deadline passed first.
  bool turn_until(const std::function<bool()>& done, runtime::Duration deadline);

  // The answer, waited for.
  template <class P, class M>
  runtime::Outcome<typename M::Reply> ask(const runtime::RefTo<P>& to, M message, runtime::Duration deadline) {
    std::optional<runtime::Outcome<typename M::Reply>> answer;
    asker().start(to, std::move(message), deadline,
                  [&](runtime::Outcome<typename M::Reply> outcome) { answer.emplace(std::move(outcome)); });
    if (!turn_until([&] { return answer.has_value(); }, deadline + kAnswerSlack)) {
      return runtime::failure(runtime::ErrorKind::kTimedOut, "no answer");
    }
    return std::move(*answer);
  }

  // From the Coordinator, or where it does not answer from the first worker that does.
  runtime::Outcome<cluster::ClusterStatusReport> status(runtime::Duration deadline);
  // The Batcher of the view; kPeerDown in words where its node is not there.
  runtime::Outcome<runtime::RefTo<actors::BatcherProtocol>> batcher(const cluster::ClusterView& view) const;
  // Looked for until it is found: a Coordinator that has just started knows of no life yet, workers do.
  runtime::Outcome<runtime::RefTo<actors::BatcherProtocol>> find_batcher(runtime::Duration deadline);
  // Starts a generation on this client's loop; turn_until lets it run.
  runtime::ActorRef start_stream(runtime::RefTo<actors::BatcherProtocol> batcher, actors::GenerationRequest request,
                                 actors::StreamEvents events);
  void stop(runtime::ActorRef actor);
  runtime::Instant now() const;
  // Is this process connected to it? False at first, and soon after it has ended.
  bool hears(runtime::NodeId process) const;

  static constexpr runtime::Duration kAnswerSlack = std::chrono::milliseconds(500);  // the ask's own timer comes first

 private:
  runtime::Outcome<cluster::ClusterStatusReport> status_of_worker(runtime::NodeId worker, runtime::Duration deadline);

  // An actor that asks for others.
  class Asker final : public runtime::ActorOf<Asker, runtime::Protocol<>> {
   public:
    template <class P, class M, class F>
    void start(const runtime::RefTo<P>& to, M message, runtime::Duration deadline, F handler) {
      ask(to, std::move(message), deadline).then(std::move(handler));
    }
  };
  struct Parts;
  explicit Client(std::unique_ptr<Parts> parts);
  Asker& asker();
  std::unique_ptr<Parts> parts_;
};

}  // namespace consort::cli
