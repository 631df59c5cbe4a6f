// HttpServer: the API over HTTP/1.1 on a thread of its own; everything that takes time goes through the RequestPort.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "actors/serving/request_port.hpp"
#include "cluster/cluster_watch.hpp"
#include "runtime/metrics.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

// Per phase, so that a client that does nothing, or little, is let go whatever it does.
struct HttpTimes {
  std::chrono::milliseconds handshake = std::chrono::seconds(10);  // of TLS
  std::chrono::milliseconds idle = std::chrono::seconds(75);       // until a request begins; browsers keep for 60 s
  std::chrono::milliseconds header = std::chrono::seconds(10);     // from its first byte to the end of the header
  std::chrono::milliseconds body = std::chrono::seconds(60);
  std::chrono::milliseconds write = std::chrono::seconds(30);       // for what is being written to be taken
  std::chrono::milliseconds keep_alive = std::chrono::seconds(10);  // between the comments of a stream that is silent
  std::chrono::milliseconds drain = std::chrono::seconds(2);        // for a refused client to read why
};
struct HttpLimits {
  std::uint32_t header_bytes = 16u << 10;  // of browsers with all their cookies
  std::uint64_t body_bytes = 4u << 20;     // a million tokens of text
  std::size_t bodies_bytes = 256u << 20;   // of all bodies that are being received
  std::size_t pending_bytes = 1u << 20;    // written by the model, not taken by the client: then the client is let go
  std::size_t connections = 12000;         // beyond: those that ask nothing make room, the oldest first
};

struct HttpOptions {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;  // 0: any that is free
  std::string keys_file;
  std::string usage_file;                // empty: nothing is metered
  std::string tls_certificate, tls_key;  // both or none
  std::string model;
  std::int64_t created = 0;  // of the model, in unix seconds
  std::uint32_t context_tokens = 0;
  std::string version;
  bool has_thinking_switch = false;           // the model's chat format writes with or without a thought
  std::shared_ptr<cluster::WatchPort> watch;  // null: the cluster cannot be looked at
  HttpTimes times;
  HttpLimits limits;
};

class HttpServer {
 public:
  using Snapshot = std::function<std::shared_ptr<const runtime::MetricsSnapshot>()>;
  // Listens when it returns. `metrics` is called on the server's thread.
  static runtime::Outcome<std::unique_ptr<HttpServer>> open(HttpOptions options,
                                                            std::shared_ptr<actors::RequestPort> port,
                                                            Snapshot metrics);
  ~HttpServer();
  std::uint16_t port() const;

  struct State;  // of its source

 private:
  explicit HttpServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace consort::cli
