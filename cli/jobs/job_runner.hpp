// JobRunner: gives a job's lines to the Gateway of this process, some at once, and records every answer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/house/gateway_process.hpp"
#include "cli/http/api_answer.hpp"
#include "cli/jobs/job_file.hpp"
#include "cli/jobs/job_input.hpp"
#include "cli/jobs/job_progress.hpp"
#include "cli/jobs/job_record.hpp"
#include "runtime/env.hpp"
#include "runtime/outcome.hpp"
#include "runtime/posix/posix_clock.hpp"

namespace consort::cli {

// All on one thread: the Gateway's loop is turned by run(). A request that is refused because the cluster is busy goes
// back into the queue, and fewer are open at once until others succeed; one that was lost with a node goes back up to
// `retries` times. While the cluster serves nobody, nothing is sent, and no line fails.
class JobRunner {
 public:
  JobRunner(GatewayProcess& gateway, const JobFile& job, const JobInput& input, JobRecord& record, std::string model,
            JobProgress& progress);

  enum class End : std::uint8_t { kAllDone, kInterrupted };
  // Until every line is recorded or `stop` says so. An error: the job cannot go on, and what is recorded stays.
  runtime::Outcome<End> run(const std::function<bool()>& stop);
  std::uint64_t tokens() const;  // made since the start: of answers, and of open requests as far as the Gateway told

 private:
  struct Waiting {  // a line whose turn has come before, or comes again
    std::size_t index = 0;
    std::uint32_t lost = 0;  // times that it was lost with a node
    std::optional<runtime::Instant> first_busy;
    runtime::Instant due{};
    runtime::Duration pause{0};
  };
  struct Open {
    Waiting line;
    std::uint64_t ticket = 0;
    std::string custom_id;
    std::string request_id;
    AnswerWriter writer;
    std::optional<actors::PortEvent> last;
  };
  class Sink;

  std::optional<Waiting> next_line();
  bool may_send() const;
  runtime::Status send_some();
  runtime::Status send(Waiting line);
  void gather(std::uint64_t number, const actors::PortEvent& event);
  runtime::Status record_ended();
  void take_ended(Open& open);
  void retry(Waiting line, bool is_busy, const Refusal& refusal, const Open& open);
  void fail(std::size_t index, const std::string& custom_id, const std::string& request_id, const Refusal& refusal);
  runtime::Status watch_cluster();
  JobState state() const;
  void leave();

  GatewayProcess& gateway_;
  const JobFile& job_;
  const JobInput& input_;
  JobRecord& record_;
  const std::string model_;
  JobProgress& progress_;
  runtime::posix::PosixClock clock_;
  runtime::Rng rng_;
  std::size_t next_ = 0;       // of the lines that were never sent in this run
  std::deque<Waiting> again_;  // no more than were open at once
  std::map<std::uint64_t, std::unique_ptr<Open>> open_;
  std::vector<std::uint64_t> ended_;
  std::uint64_t next_number_ = 1;
  std::uint32_t allowed_;  // requests at once, up to job_.concurrency
  std::vector<JobRecord::Line> to_record_;
  std::optional<runtime::Instant> silent_since_;
  std::string trouble_;
  const std::uint64_t tokens_before_;  // of earlier runs
};

}  // namespace consort::cli
