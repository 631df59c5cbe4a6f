// Metering: requests as quotas and the usage log see them. Lives on the HTTP server's thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "actors/serving/request_port.hpp"
#include "cli/metering/quotas.hpp"
#include "cli/metering/usage_log.hpp"
#include "runtime/env.hpp"

namespace consort::cli {

// Whose request it is: a key's name, or kNoKey without limits.
struct Payer {
  std::string key{kNoKey};
  KeyLimits limits;
};

class Metering {
 public:
  // A null log: nothing is kept.
  Metering(const runtime::Clock& clock, std::unique_ptr<UsageLog> log);
  ~Metering();

  // One request between its admission and its end.
  class Request {
   public:
    ~Request();  // as ended without failure, where end() was not called
    // Its usage so far, which only grows.
    void progress(const actors::AnswerUsage& so_far);
    void end(const actors::AnswerUsage& in_all, bool failed);

   private:
    friend class Metering;
    Request(Metering& metering, std::string key, std::uint64_t reserved, runtime::Instant begun);

    Metering& metering_;
    const std::string key_;
    std::uint64_t taken_;  // from the key's bucket: what was reserved, or more where more was used
    actors::AnswerUsage told_;
    runtime::Instant told_at_;
    bool ended_ = false;
  };

  // What the payer is over, before anything of the request is read.
  std::optional<QuotaOver> look(const Payer& payer);
  // `tokens`: what the request may need.
  struct Admission {
    std::optional<QuotaOver> over;
    std::unique_ptr<Request> request;  // else
  };
  Admission admit(const Payer& payer, std::uint64_t tokens, runtime::Instant begun);
  // A request that was refused before it began.
  void count_refused(const Payer& payer);
  std::vector<std::pair<std::string_view, std::string>> fields(const Payer& payer) const;

  // Now and then: notes how long this process lives, and brings the log to disk.
  void tick();

 private:
  KeyQuotas::Now now() const;
  void note_life();

  const runtime::Clock& clock_;
  std::unique_ptr<UsageLog> log_;
  KeyQuotas quotas_;
  runtime::Instant up_since_;
};

// "429", in OpenAI's words.
std::string quota_message(const QuotaOver& over, const std::string& key);

}  // namespace consort::cli
