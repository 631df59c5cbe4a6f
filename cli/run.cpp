// `consort run`: a job from a file, over a cluster that is up or one of its own.
// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <boost/json.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>

#include "cli/commands.hpp"
#include "cli/house/gateway_process.hpp"
#include "cli/jobs/job_runner.hpp"

namespace consort::cli {

using runtime::Outcome;
using runtime::Status;

namespace {

volatile std::sig_atomic_t stop_asked = 0;

void on_stop_signal(int) { stop_asked = 1; }

void say(const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); }

// The cluster that a job brought up itself, also in an earlier run that was killed; taken down at the end.
class OwnCluster {
 public:
  OwnCluster(const JobFile& job, const ClusterState& state, JobRecord& record)
      : job_(job), state_(state), record_(record) {
    const auto agent = agent_pid();
    is_ours_ = agent && (record_.started_agent() == kStarting || record_.started_agent() == *agent);
  }
  ~OwnCluster() {
    if (!is_ours_) return;
    (void)run_down({job_.cluster});
    (void)record_.note_started_agent(0);
  }
  OwnCluster(const OwnCluster&) = delete;
  OwnCluster& operator=(const OwnCluster&) = delete;

  // kExitOk where the cluster is up now.
  int up() {
    if (agent_pid()) return kExitOk;
    if (!job_.start_cluster) {
      return wrong_use("cluster '" + state_.config.name + "' is not up: run `consort up " + job_.cluster +
                       "`, or set job.start_cluster = true");
    }
    if (const auto noted = record_.note_started_agent(kStarting); !noted.ok()) return job_failed(noted.error().text);
    UpOptions options;
    options.cluster_file = job_.cluster;
    options.detach = true;
    const int code = run_up(options);
    is_ours_ = code == kExitOk;
    const auto noted = record_.note_started_agent(is_ours_ ? agent_pid().value_or(0) : 0);
    return noted.ok() ? code : job_failed(noted.error().text);
  }

 private:
  static constexpr int kStarting = -1;  // noted while `up` is under way

  std::optional<int> agent_pid() const { return state_.folder.living_process(state_.processes.agents.front().name); }

  const JobFile& job_;
  const ClusterState& state_;
  JobRecord& record_;
  bool is_ours_ = false;
};

struct Summary {
  JobRecord::Totals all;
  JobRecord::Totals before;
  std::uint64_t requests = 0;
  double seconds = 0;
};

void print_summary(const Summary& summary, bool as_json) {
  const double made = static_cast<double>(summary.all.completion_tokens - summary.before.completion_tokens);
  const double rate = summary.seconds > 0 ? made / summary.seconds : 0;
  if (as_json) {
    const boost::json::object object{{"requests", summary.requests},
                                     {"lines", summary.all.lines},
                                     {"failed", summary.all.failed},
                                     {"lines_before", summary.before.lines},
                                     {"prompt_tokens", summary.all.prompt_tokens},
                                     {"completion_tokens", summary.all.completion_tokens},
                                     {"seconds", summary.seconds},
                                     {"tokens_per_second", rate}};
    std::printf("%s\n", boost::json::serialize(object).c_str());
    return;
  }
  std::printf("%llu of %llu lines, %llu failed; %llu prompt tokens, %llu completion tokens\n",
              static_cast<unsigned long long>(summary.all.lines), static_cast<unsigned long long>(summary.requests),
              static_cast<unsigned long long>(summary.all.failed),
              static_cast<unsigned long long>(summary.all.prompt_tokens),
              static_cast<unsigned long long>(summary.all.completion_tokens));
  std::printf("this run: %llu lines, %.1f s, %.1f tokens/s\n",
              static_cast<unsigned long long>(summary.all.lines - summary.before.lines), summary.seconds, rate);
}

int run_lines(const RunOptions& options, const JobFile& job, const JobInput& input, const ClusterState& state,
              JobRecord& record) {
  const auto gateway = GatewayProcess::open(state, kOperatorProcess);
  if (!gateway.ok()) return job_failed(gateway.error().text);
  Summary summary;
  summary.before = record.totals();
  summary.requests = input.size();
  JobProgress progress(::isatty(STDERR_FILENO) == 1, input.size(), summary.before.lines);
  const auto begun = std::chrono::steady_clock::now();
  JobRunner runner(**gateway, job, input, record, served_name(state.config), progress);
  const auto end = runner.run([] { return stop_asked != 0; });
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  summary.all = record.totals();
  print_summary(summary, options.json);
  const std::string go_on = "; `consort run " + options.job_file + "` goes on from there";
  if (!end.ok()) return job_failed(end.error().text + go_on);
  if (*end == JobRunner::End::kInterrupted) return job_failed("interrupted" + go_on);
  if (summary.all.failed == 0) return kExitOk;
  return job_failed(std::to_string(summary.all.failed) + " lines failed: their answers in " + job.output + " say why");
}

}  // namespace

int run_job(const RunOptions& options) {
  const auto job = read_job_file(options.job_file);
  if (!job.ok()) return wrong_use(job.error().text);
  const auto state = ClusterState::of_file(job->cluster);
  if (!state.ok()) return wrong_use(state.error().text);
  const auto input = JobInput::open(job->input);
  if (!input.ok()) return wrong_use(input.error().text);
  auto record = JobRecord::open(job->output, *input);
  if (!record.ok()) return wrong_use(record.error().text);
  if (record->cut_bytes() > 0) {
    say(job->output + ": its last " + std::to_string(record->cut_bytes()) + " bytes were no whole line: cut off");
  }
  if (record->totals().lines > 0) {
    say(std::to_string(record->totals().lines) + " of " + std::to_string(input->size()) + " lines are done already");
  }
  OwnCluster cluster(*job, *state, *record);
  if (record->totals().lines == input->size()) {
    print_summary({record->totals(), record->totals(), input->size(), 0}, options.json);
    return record->totals().failed == 0 ? kExitOk : kExitFailed;
  }
  if (const int code = cluster.up(); code != kExitOk) return code;
  std::signal(SIGINT, on_stop_signal);
  std::signal(SIGTERM, on_stop_signal);
  return run_lines(options, *job, *input, *state, *record);
}

}  // namespace consort::cli
