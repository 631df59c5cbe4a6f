// The program: flags to options, one command to run.
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <functional>

#include "cli/commands.hpp"
#include "cli/http/api_keys.hpp"

namespace consort::cli {

int wrong_use(const std::string& text) {
  std::fprintf(stderr, "consort: %s\n", text.c_str());
  return kExitWrongUse;
}

int job_failed(const std::string& text) {
  std::fprintf(stderr, "consort: %s\n", text.c_str());
  return kExitFailed;
}

}  // namespace consort::cli

namespace {

using namespace consort::cli;

struct Options {
  UpOptions up;
  DownOptions down;
  StatusOptions status;
  GenerateOptions generate;
  LogitsOptions logits;
  InspectOptions inspect;
  TokenizeOptions tokenize;
  DoctorOptions doctor;
  TraceOptions trace;
  TopOptions top;
  DrainOptions drain;
  RunOptions run;
  SimulateOptions simulate;
  ProcessOptions process;
  KeysOptions keys;
  UsageOptions usage;
  std::function<int()> chosen;
};

std::string seconds_help(const char* text) { return std::string(text) + " (seconds)"; }

void add_source(CLI::App& command, ModelSource& source) {
  auto* model = command.add_option("--model", source.model_dir, "model directory: run in this one process");
  auto* cluster = command.add_option("--cluster", source.cluster_file, "cluster file: run on the cluster that is up");
  model->excludes(cluster);
  command
      .add_option("--numeric-plan", source.numeric_plan_file,
                  "with --model: compute with this plan (from `consort status --numeric-plan`)")
      ->excludes(cluster);
  command.parse_complete_callback([&source] {
    if (source.model_dir.empty() == source.cluster_file.empty()) {
      throw CLI::ValidationError("say either --model DIR or --cluster FILE");
    }
  });
}

void add_cluster_commands(CLI::App& app, Options& o) {
  auto* up = app.add_subcommand("up", "bring a cluster up; ready when a real token has crossed every node");
  up->add_option("file", o.up.cluster_file, "cluster file (TOML)")->required()->check(CLI::ExistingFile);
  up->add_flag("--detach", o.up.detach, "return when ready; `consort down` ends it");
  up->add_flag("--no-restart", o.up.no_restart, "do not start ended nodes again");
  up->add_flag("--insecure", o.up.insecure, "the HTTP service may listen beyond this machine without TLS");
  up->add_option("--numeric-plan", o.up.numeric_plan_file, "use this numeric plan at the first up")
      ->check(CLI::ExistingFile);
  up->add_option("--ready-deadline", o.up.ready_deadline, seconds_help("give up after this long"))
      ->capture_default_str();
  up->final_callback([&o] { o.chosen = [&o] { return run_up(o.up); }; });

  auto* down = app.add_subcommand("down", "end a cluster");
  down->add_option("file", o.down.cluster_file, "cluster file (TOML)")->required()->check(CLI::ExistingFile);
  down->final_callback([&o] { o.chosen = [&o] { return run_down(o.down); }; });

  auto* status = app.add_subcommand("status", "nodes, roles, incarnations, parts, bytes read, health");
  status->add_option("file", o.status.cluster_file, "cluster file (TOML)")->required()->check(CLI::ExistingFile);
  status->add_option("--numeric-plan", o.status.numeric_plan_out, "write the numeric plan in force to this file");
  status->add_flag("--json", o.status.json, "one JSON object instead of a table");
  status->final_callback([&o] { o.chosen = [&o] { return run_status(o.status); }; });

  auto* top = app.add_subcommand("top", "a cluster at work, live: nodes, requests, where the time of a step goes");
  top->add_option("file", o.top.cluster_file, "cluster file (TOML)")->required()->check(CLI::ExistingFile);
  top->add_flag("--once", o.top.once, "one table of one second, and no more");
  top->final_callback([&o] { o.chosen = [&o] { return run_top(o.top); }; });

  auto* drain = app.add_subcommand("drain", "let a node leave for good; its parts move to the others");
  drain->add_option("file", o.drain.cluster_file, "cluster file (TOML)")->required()->check(CLI::ExistingFile);
  drain->add_option("node", o.drain.node, "its name in the file")->required();
  drain->final_callback([&o] { o.chosen = [&o] { return run_drain(o.drain); }; });

  auto* trace = app.add_subcommand("trace", "record the running cluster as one Chrome trace over all nodes");
  trace->add_option("file", o.trace.cluster_file, "cluster file (TOML)")->required()->check(CLI::ExistingFile);
  trace->add_option("--out", o.trace.out, "where to write the JSON")->required();
  auto* milliseconds =
      trace->add_option("--milliseconds", o.trace.duration, "how long to record")->capture_default_str();
  trace
      ->add_option_function<double>(
          "--seconds",
          [&o](double seconds) { o.trace.duration = std::chrono::milliseconds(static_cast<int>(seconds * 1000)); },
          "the same in seconds")
      ->check(CLI::Range(0.001, 3600.0))
      ->excludes(milliseconds);
  trace->final_callback([&o] { o.chosen = [&o] { return run_trace(o.trace); }; });

  auto* run = app.add_subcommand("run", "answer the lines of a file; interrupted and started again it goes on");
  run->add_option("file", o.run.job_file, "job file (TOML)")->required()->check(CLI::ExistingFile);
  run->add_flag("--json", o.run.json, "the summary as one JSON object");
  run->final_callback([&o] { o.chosen = [&o] { return run_job(o.run); }; });

  auto* simulate = app.add_subcommand("simulate", "run a cluster file in virtual time from a seed");
  simulate->add_option("file", o.simulate.cluster_file, "cluster file (TOML)")->required()->check(CLI::ExistingFile);
  simulate->add_option("--seed", o.simulate.seed, "everything random comes from it")->capture_default_str();
  simulate->add_option(
      "--faults", o.simulate.faults,
      "fault plan, faults separated by ';', N counts events from the first request on: "
      "crash P at N | pause P T at N (as SIGSTOP) | slow P T at N (ten times) | break P Q at N (data wire) | "
      "part P Q T at N | stall P Q T at N | corrupt P Q at N (one bit); P, Q: a node's name or "
      "coordinator; T: 500ms, 2s. Example: \"crash garage at 1200; pause attic 1s at 2000\"");
  simulate->add_option("--ids", o.simulate.ids,
                       "prompt ids (default: 3,1,4,1,5,9,2,6); prompts of several requests separated by ';'");
  simulate->add_option("--requests", o.simulate.requests, "requests at once, where --ids names one prompt")
      ->capture_default_str();
  simulate->add_option("--max-new-tokens", o.simulate.max_new_tokens, "tokens per request")->capture_default_str();
  simulate->add_flag("--json", o.simulate.json, "one JSON line per event and per request");
  simulate->final_callback([&o] { o.chosen = [&o] { return run_simulate(o.simulate); }; });
}

void add_model_commands(CLI::App& app, Options& o) {
  auto* generate = app.add_subcommand("generate", "text from a prompt, in one process or on a cluster");
  add_source(*generate, o.generate.source);
  auto* prompt = generate->add_option("--prompt", o.generate.prompt, "text to continue");
  auto* chat = generate->add_option("--chat", o.generate.chat, "one user message in the model's chat format");
  auto* ids = generate->add_option("--ids", o.generate.ids, "token ids, comma separated");
  prompt->excludes(chat)->excludes(ids);
  chat->excludes(ids);
  generate->add_option("--system", o.generate.system, "system message, with --chat");
  generate->add_option("--chat-format", o.generate.chat_format, "instead of the one that tokenizer_config.json has");
  generate->add_option("--temperature", o.generate.temperature, "0: the likeliest token")->capture_default_str();
  generate->add_option("--top-p", o.generate.top_p, "smallest set with this much probability")->capture_default_str();
  generate->add_option("--top-k", o.generate.top_k, "0: all")->capture_default_str();
  generate->add_option("--min-p", o.generate.min_p, "relative to the likeliest token")->capture_default_str();
  generate->add_option("--seed", o.generate.seed, "draws depend on it and the position only")->capture_default_str();
  generate->add_option("--max-new-tokens", o.generate.max_new_tokens, "")->capture_default_str();
  generate->add_flag("--ignore-eos", o.generate.ignore_eos, "go on after the end-of-text token");
  generate->add_option("--deadline", o.generate.deadline, "milliseconds until the request ends in words")
      ->capture_default_str();
  generate->add_option("--chunk-tokens", o.generate.chunk_tokens, "prefill chunk, with --model")->capture_default_str();
  generate->add_flag("--json", o.generate.json, "one JSON line per token, with its logits_crc");
  generate->final_callback([&o] { o.chosen = [&o] { return run_generate(o.generate); }; });

  auto* logits = app.add_subcommand("logits", "logits, hidden states and routes of given ids as safetensors");
  add_source(*logits, o.logits.source);
  logits->add_option("--ids", o.logits.ids, "token ids, comma separated")->required();
  logits->add_option("--out", o.logits.out, "safetensors file to write")->required();
  logits->add_option("--chunk-tokens", o.logits.chunk_tokens, "prefill chunk, with --model")->capture_default_str();
  logits->final_callback([&o] { o.chosen = [&o] { return run_logits(o.logits); }; });

  auto* inspect = app.add_subcommand("inspect", "what a model directory holds: parameters, bytes, KV per token");
  inspect->add_option("dir", o.inspect.model_dir, "model directory")->required()->check(CLI::ExistingDirectory);
  inspect->add_flag("--json", o.inspect.json, "one JSON object instead of tables");
  inspect->final_callback([&o] { o.chosen = [&o] { return run_inspect(o.inspect); }; });

  auto* tokenize = app.add_subcommand("tokenize", "text to ids, or ids to text");
  tokenize->add_option("dir", o.tokenize.model_dir, "model directory")->required()->check(CLI::ExistingDirectory);
  auto* text = tokenize->add_option("--text", o.tokenize.text, "text to encode (default: standard input)");
  tokenize->add_option("--ids", o.tokenize.ids, "ids to decode")->excludes(text);
  tokenize->final_callback([&o] { o.chosen = [&o] { return run_tokenize(o.tokenize); }; });

  auto* doctor =
      app.add_subcommand("doctor", "what each machine has for Consort, and the command that mends what is missing");
  doctor->add_option("file", o.doctor.cluster_file, "cluster file: its machines are looked at too")
      ->check(CLI::ExistingFile);
  doctor->add_flag("--json", o.doctor.json, "one JSON object instead of lines");
  doctor->final_callback([&o] { o.chosen = [&o] { return run_doctor(o.doctor); }; });
}

void add_limits(CLI::App& command, KeysOptions& keys) {
  const auto add = [&](const char* flag, const char* name, const char* help) {
    command
        .add_option_function<std::uint64_t>(
            flag, [&keys, name](const std::uint64_t& limit) { keys.limits[name] = limit; }, help)
        ->check(CLI::Range(std::uint64_t{0}, kMaxKeyLimit));
  };
  add("--requests-per-minute", "requests_per_minute", "0: no limit");
  add("--tokens-per-minute", "tokens_per_minute", "of prompts and answers; 0: no limit");
  add("--concurrent", "concurrent", "requests at once; 0: no limit");
  add("--tokens-per-day", "tokens_per_day", "from midnight to midnight UTC; 0: no limit");
}

void add_keys_commands(CLI::App& app, Options& o) {
  auto* keys = app.add_subcommand("keys", "who may use a cluster's HTTP service");
  keys->require_subcommand(1);
  auto* api = keys->add_subcommand("api", "API keys: add, set, list, revoke");
  api->require_subcommand(1);
  const auto add = [&](const char* name, const char* help, KeysOptions::What what) {
    auto* command = api->add_subcommand(name, help);
    command->add_option("file", o.keys.cluster_file, "cluster file (TOML)")->required()->check(CLI::ExistingFile);
    if (what != KeysOptions::What::kList) command->add_option("name", o.keys.name, "of the key")->required();
    if (what == KeysOptions::What::kAdd || what == KeysOptions::What::kSet) add_limits(*command, o.keys);
    command->final_callback([&o, what] {
      o.keys.what = what;
      o.chosen = [&o] { return run_keys(o.keys); };
    });
  };
  add("add", "make a key and show it, once", KeysOptions::What::kAdd);
  add("set", "change a key's limits; the others stay", KeysOptions::What::kSet);
  add("list", "names and limits of the keys", KeysOptions::What::kList);
  add("revoke", "take a key back", KeysOptions::What::kRevoke);
}

void add_usage_command(CLI::App& app, Options& o) {
  auto* usage = app.add_subcommand("usage", "what was used, per day and API key, and what it costs");
  usage->add_option("file", o.usage.cluster_file, "cluster file (TOML)")->required()->check(CLI::ExistingFile);
  usage->add_option("--from", o.usage.from, "first day, YYYY-MM-DD (UTC)");
  usage->add_option("--to", o.usage.to, "last day");
  usage->add_option("--key", o.usage.key, "of this key alone");
  usage->add_flag("--csv", o.usage.csv, "comma separated values instead of a table");
  usage->final_callback([&o] { o.chosen = [&o] { return run_usage(o.usage); }; });
}

void add_process_commands(CLI::App& app, Options& o) {
  const auto add = [&](const char* name, int (*run)(const ProcessOptions&)) {
    auto* command = app.add_subcommand(name, "started by `consort up`, not by people");
    command->group("");
    command->add_option("--state", o.process.state_dir)->required();
    command->add_option("--name", o.process.name);
    command->final_callback([&o, run] { o.chosen = [&o, run] { return run(o.process); }; });
  };
  add("agent-process", run_agent_process);
  add("coordinator-process", run_coordinator_process);
  add("worker-process", run_worker_process);
  add("gateway-process", run_gateway_process);
  const auto add_host = [&](const char* name, int (*run)()) {
    auto* command = app.add_subcommand(name, "run over ssh by `consort` of another machine, not by people");
    command->group("");
    command->final_callback([&o, run] { o.chosen = run; });
  };
  add_host("host-report", run_host_report);
  add_host("host-start", run_host_start);
  add_host("host-look", run_host_look);
  add_host("host-end", run_host_end);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Consort serves mixture-of-experts models over unlike machines."};
  app.set_version_flag("--version", "consort 0.1.0");
  app.require_subcommand(1);
  Options options;
  add_cluster_commands(app, options);
  add_model_commands(app, options);
  add_keys_commands(app, options);
  add_usage_command(app, options);
  add_process_commands(app, options);
  // CLI11 would only say that a command is missing.
  const auto is_asked = [&](const CLI::App* command) { return command->get_name() == argv[1]; };
  if (argc > 1 && argv[1][0] != '-' && std::ranges::none_of(app.get_subcommands({}), is_asked)) {
    return wrong_use("there is no command '" + std::string(argv[1]) + "': see consort --help");
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitWrongUse;
  }
  return options.chosen();
}
