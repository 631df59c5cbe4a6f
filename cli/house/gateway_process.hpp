// The Gateway's process: a client of the cluster with a loop, a device that encodes, and the Gateway on them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "actors/serving/request_port.hpp"
#include "cli/house/cluster_state.hpp"
#include "cluster/cluster_watch.hpp"
#include "runtime/metrics.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

class GatewayProcess {
 public:
  // Errors are of the start: the model's tokenizer and config, keys, addresses.
  // `key_of` names the process or operator whose key it speaks with.
  static runtime::Outcome<std::unique_ptr<GatewayProcess>> open(const ClusterState& state,
                                                                std::string_view key_of = kGatewayProcess);
  ~GatewayProcess();

  std::shared_ptr<actors::RequestPort> port() const;
  std::shared_ptr<cluster::WatchPort> watch() const;
  std::uint32_t context_tokens() const;
  bool has_thinking_switch() const;
  std::shared_ptr<const runtime::MetricsSnapshot> metrics() const;  // from any thread
  // Until the process is told to end. `on_serving` is called once, when a request would be served for the first time.
  void run(const std::function<void()>& on_serving);
  // Or instead, for a job: turns the loop until `done` holds; false: the deadline passed first.
  bool turn_until(const std::function<bool()>& done, runtime::Duration deadline);

 private:
  struct Parts;
  explicit GatewayProcess(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

// The model's name in the API.
std::string served_name(const cluster::ClusterConfig& config);

}  // namespace consort::cli
