// NodeConfig and ClusterConfig: the TOML file that describes a cluster, read strictly.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/roles.hpp"
#include "cluster/view.hpp"
#include "runtime/outcome.hpp"
#include "runtime/time.hpp"

namespace consort::cluster {

// Into how many parts the columns of an expert are cut.
struct ColumnMode {
  enum class Kind : std::uint8_t { kAuto, kNever, kFixed };
  Kind kind = Kind::kAuto;
  std::uint32_t count = 1;  // of kFixed
  auto operator<=>(const ColumnMode&) const = default;
};

// How a node's links are slowed down, for tests and simulations. Only shaped_link reads it; the planner measures.
struct LinkShape {
  runtime::Duration delay{0};          // one way
  std::uint64_t bytes_per_second = 0;  // 0: not limited
  auto operator<=>(const LinkShape&) const = default;
};

struct NodeConfig {
  std::string name;
  std::string host;
  NodeRoles roles;
  std::vector<int> cores;                     // to pin to; empty: any
  std::optional<int> threads;                 // of the executor; none: one per core given, else a share of the machine
  std::optional<std::uint64_t> memory_bytes;  // for weights and KV; none: what the machine has, shared out
  double slowdown = 1.0;                      // only the executor reads it
  LinkShape shape;
};

// The HTTP service of the node with the role gateway.
struct GatewayConfig {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8080;                // 0: any that is free, told by `consort up`
  bool insecure = false;                    // may listen where others can read along; there is no TLS yet
  std::string model_name;                   // in the API; empty: the name of the model's folder
  std::uint32_t default_max_tokens = 4096;  // of an answer whose request names no limit
  runtime::Duration request_deadline = std::chrono::minutes(10);  // as long as OpenAI's clients wait by default
};

// How many requests run and wait; the defaults are the Batcher's own where a field is none.
struct BatcherConfig {
  std::optional<std::uint32_t> max_running;        // requests that hold KV pages at once
  std::optional<std::uint32_t> max_queued;         // requests that wait for their turn
  std::optional<std::uint64_t> max_queued_tokens;  // of their prompts and what they may generate
  std::optional<std::uint32_t> chunk_tokens;       // prompt rows of one step
  std::optional<bool> prefix_cache;
};

struct ClusterConfig {
  std::string name;
  std::string path;   // of the file it came from; empty: from text
  std::string model;  // directory, resolved relative to the file
  std::uint32_t replicas = 1;
  ColumnMode columns;
  bool trust_network = false;  // needed for addresses that are neither loopback nor private
  bool shared_memory = false;  // between workers of one host; UCX 1.13.1 may not survive a killed one: docs/adr/0002
  runtime::Duration suspect_after = std::chrono::milliseconds(500);
  runtime::Duration dead_after = std::chrono::seconds(2);
  runtime::Duration heartbeat_every = std::chrono::milliseconds(100);
  runtime::Duration request_deadline = std::chrono::seconds(60);
  GatewayConfig gateway;
  BatcherConfig batcher;
  std::vector<NodeConfig> nodes;

  const NodeConfig* find(std::string_view node) const;
  // Workers count from 1 in the order of the file.
  static constexpr runtime::NodeId node_id(std::size_t index) {
    return runtime::NodeId{static_cast<std::uint32_t>(index) + 1};
  }
  std::size_t coordinator_index() const;
  std::size_t batcher_index() const;
  std::optional<std::size_t> gateway_index() const;
};

// Does an address belong to this machine? The real answer asks the kernel; tests give their own.
using IsOwnAddress = bool (*)(const std::string& address);
bool is_own_address(const std::string& address);

// kInvalid with "file:line: key: what is wrong and what to do".
runtime::Outcome<ClusterConfig> read_cluster_config(const std::string& path, IsOwnAddress own = is_own_address);
runtime::Outcome<ClusterConfig> parse_cluster_config(std::string_view text, const std::string& path,
                                                     IsOwnAddress own = is_own_address);

// "2GiB", "512 MiB", "1000000" -> bytes; "500us", "2s" -> a duration; "1Gbit", "100MB" -> bytes per second.
runtime::Outcome<std::uint64_t> parse_bytes(std::string_view text);
runtime::Outcome<runtime::Duration> parse_duration(std::string_view text);
runtime::Outcome<std::uint64_t> parse_rate(std::string_view text);

}  // namespace consort::cluster
