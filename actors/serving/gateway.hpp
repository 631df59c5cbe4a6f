// Gateway: text to requests, tokens to text. Takes work from its RequestPort, streams every answer from the Batcher,
// and knows whether the cluster would serve. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/serving/generation_client.hpp"
#include "actors/serving/request_port.hpp"
#include "cluster/messages.hpp"
#include "model/text/answer_text.hpp"
#include "model/text/chat_format.hpp"
#include "model/text/tokenizer.hpp"
#include "runtime/actor.hpp"
#include "runtime/metrics.hpp"

namespace consort::actors {

struct GatewaySettings {
  model::Tokenizer tokenizer;
  runtime::Outcome<model::ChatFormat> format;  // an error: why chats are refused
  runtime::NodeId batcher_node;
  std::uint32_t context_tokens = 0;  // prompt and answer together
  std::int32_t vocabulary = 0;
  std::uint32_t default_max_tokens = 4096;
  std::chrono::milliseconds request_deadline = std::chrono::minutes(10);
};

// Whether the cluster behind this report would serve a request, and if not, why. Pure.
ServingState serving_state(const cluster::ClusterStatusReport& report, runtime::NodeId batcher_node);

// spawn_root as Role::kGateway, index 0. Needs env.device: prompts are rendered and encoded there, off the loop.
class Gateway final : public runtime::ActorOf<Gateway, runtime::Protocol<>> {
 public:
  // The names of its metrics are those of vLLM where the meaning is the same; times are recorded in nanoseconds.
  Gateway(GatewaySettings settings, std::shared_ptr<RequestPort> port, runtime::Metrics& metrics);
  ~Gateway() override;

 private:
  struct Figures;
  struct Work;
  struct Choice;
  struct Prepared;
  void on_start() override;

  void take_works();
  void begin(RequestPort::Entry entry);
  void prepared(std::uint64_t ticket, const std::shared_ptr<Prepared>& prepared);
  void start_choices(Work& work, const Prepared& prepared);
  void add_choice(Work& work, const Prepared& prepared);
  AnswerPiece piece_of(Choice& choice, std::uint32_t number, model::AnswerText::Piece piece);
  std::string call_id();
  void on_accepted(std::uint64_t ticket);
  void on_token(std::uint64_t ticket, std::uint32_t choice, const GeneratedToken& token);
  void on_ended(std::uint64_t ticket, std::uint32_t choice, const GenerationEnded& end);
  void end_choice(Work& work, std::uint32_t choice, Finish finish);
  void fail(std::uint64_t ticket, WorkFailure kind, std::string text, std::chrono::milliseconds come_again = {},
            std::string param = {});
  void close(std::uint64_t ticket);
  TokenDetail detail_of(const GeneratedToken& token) const;
  void look_at_cluster();
  void count_open();

  const GatewaySettings settings_;
  const std::shared_ptr<RequestPort> port_;
  const std::unique_ptr<Figures> figures_;
  std::map<std::uint64_t, std::unique_ptr<Work>> works_;  // by ticket
  std::uint32_t next_stream_ = 1;
  std::optional<runtime::RefTo<BatcherProtocol>> batcher_;
  std::string why_not_ = "the cluster was not asked yet";
};

}  // namespace consort::actors
