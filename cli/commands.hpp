// The commands of the program, one function each: options in, exit code out.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace consort::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;    // the job failed
inline constexpr int kExitWrongUse = 2;  // flags or files are wrong

// A bad flag or file: prints "consort: text" to standard error.
int wrong_use(const std::string& text);
int job_failed(const std::string& text);

struct UpOptions {
  std::string cluster_file;
  bool detach = false;
  bool no_restart = false;
  bool insecure = false;
  std::string numeric_plan_file;  // empty: decided at the first `up`
  std::chrono::seconds ready_deadline{120};
};
int run_up(const UpOptions& options);

struct DownOptions {
  std::string cluster_file;
};
int run_down(const DownOptions& options);

struct StatusOptions {
  std::string cluster_file;
  std::string numeric_plan_out;
  bool json = false;
};
int run_status(const StatusOptions& options);

struct TopOptions {
  std::string cluster_file;
  bool once = false;  // one table and no more: also where the output is no terminal
};
int run_top(const TopOptions& options);

struct DrainOptions {
  std::string cluster_file;
  std::string node;
};
int run_drain(const DrainOptions& options);

// Where a command's model lives: a directory (one process) or a running cluster; exactly one is set.
struct ModelSource {
  std::string model_dir;
  std::string cluster_file;
  std::string numeric_plan_file;  // with model_dir: whole experts where empty
};

struct GenerateOptions {
  ModelSource source;
  std::string prompt;  // exactly one of prompt, chat, ids
  std::string chat;
  std::string ids;
  std::string chat_format;  // empty: by tokenizer_config.json
  std::string system;
  double temperature = 0;
  double top_p = 1;
  int top_k = 0;
  double min_p = 0;
  std::uint64_t seed = 0;
  int max_new_tokens = 256;
  bool ignore_eos = false;
  std::chrono::milliseconds deadline{60000};
  bool json = false;
  int chunk_tokens = 128;
};
int run_generate(const GenerateOptions& options);

struct LogitsOptions {
  ModelSource source;
  std::string ids;
  std::string out;
  int chunk_tokens = 128;
};
int run_logits(const LogitsOptions& options);

struct InspectOptions {
  std::string model_dir;
  bool json = false;
};
int run_inspect(const InspectOptions& options);

struct TokenizeOptions {
  std::string model_dir;
  std::string text;
  std::string ids;  // the way back
};
int run_tokenize(const TokenizeOptions& options);

struct DoctorOptions {
  std::string cluster_file;  // empty: this machine alone
  bool json = false;
};
int run_doctor(const DoctorOptions& options);

struct TraceOptions {
  std::string cluster_file;
  std::string out;
  std::chrono::milliseconds duration{2000};
};
int run_trace(const TraceOptions& options);

struct RunOptions {
  std::string job_file;
  bool json = false;  // the summary
};
int run_job(const RunOptions& options);

struct SimulateOptions {
  std::string cluster_file;
  std::uint64_t seed = 1;
  std::string faults;  // "crash garage at event 1200; pause attic 1s at token 5; ..."
  std::string ids;
  int max_new_tokens = 8;
  int requests = 1;
  bool json = false;
};
int run_simulate(const SimulateOptions& options);

struct KeysOptions {
  enum class What : std::uint8_t { kAdd, kSet, kList, kRevoke };
  What what = What::kList;
  std::string cluster_file;
  std::string name;
  std::map<std::string, std::uint64_t> limits;  // by name, those that were given; 0: none any more
};
int run_keys(const KeysOptions& options);

struct UsageOptions {
  std::string cluster_file;
  std::string from, to;  // days of UTC, both in; empty: all
  std::string key;       // empty: all
  bool csv = false;
};
int run_usage(const UsageOptions& options);

// Started by `up` and by node agents, not by people.
struct ProcessOptions {
  std::string state_dir;
  std::string name;  // of the node or host
};
int run_agent_process(const ProcessOptions& options);
int run_coordinator_process(const ProcessOptions& options);
int run_worker_process(const ProcessOptions& options);
int run_gateway_process(const ProcessOptions& options);
// Run over ssh by `up`, `down` and `doctor` of another machine: an order on standard input, an answer on standard
// output.
int run_host_report();
int run_host_start();
int run_host_look();
int run_host_end();

}  // namespace consort::cli
