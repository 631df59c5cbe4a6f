#include "cli/house/elsewhere.hpp"

#include <algorithm>

#include "cli/house/host_work.hpp"
#include "cli/house/ssh.hpp"

namespace consort::cli {

using cluster::HostConfig;
using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

namespace {

template <class Answer, class Order>
Outcome<Answer> order(const HostConfig& host, const char* command, const Order& message) {
  CONSORT_TRY(const std::string said, run_ssh(host.ssh, {host.program, command}, to_json(message)));
  auto answer = from_json<Answer>(said);
  if (answer.ok()) return answer;
  return failure(answer.error().kind, host.ssh + ": " + host.program + " " + command + ": " + answer.error().text);
}

const std::string& model_at(const HostConfig& host, const cluster::ClusterConfig& config) {
  return host.model.empty() ? config.model : host.model;
}

}  // namespace

std::string build_trouble(const HostReport& report, const HostReport& here) {
  if (report.build != here.build) return "has " + report.build + ", this machine " + here.build;
  // Of unlike processors the files differ anyway.
  if (report.processor_kind == here.processor_kind && report.program_digest != here.program_digest) {
    return "has another build of " + here.build + " than this machine";
  }
  return "";
}

Outcome<HostReport> Elsewhere::report(const HostConfig& host) const {
  HostQuestion question;
  question.cluster = state_.config.name;
  question.state = host.state;
  question.model = model_at(host, state_.config);
  question.address = host.address;
  question.ports = static_cast<std::uint32_t>(state_.processes.of_host(host.address).size());
  return order<HostReport>(host, "host-report", question);
}

Status Elsewhere::look_around() {
  if (hosts().empty()) return runtime::done();
  HostQuestion question;
  question.cluster = state_.config.name;
  question.model = state_.config.model;
  question.address = "127.0.0.1";
  const HostReport here = report_host(question);
  for (const HostConfig& host : hosts()) {
    CONSORT_TRY(HostReport said, report(host));
    const auto wrong = [&](const std::string& what) { return failure(ErrorKind::kInvalid, host.ssh + " " + what); };
    if (const std::string trouble = build_trouble(said, here); !trouble.empty()) {
      return wrong(trouble + ": copy this program there, to " + host.program);
    }
    if (!said.alive.empty()) {
      return wrong("runs cluster '" + state_.config.name + "' already (" + said.alive.front() +
                   " lives): `consort down` ends it");
    }
    for (const std::string* trouble : {&said.cpu_trouble, &said.model_trouble, &said.ports_trouble}) {
      if (!trouble->empty()) return wrong("cannot run its nodes: " + *trouble);
    }
    if (said.model_manifest != here.model_manifest) {
      return wrong("has another model in " + model_at(host, state_.config) + " than this machine in " +
                   state_.config.model + ": copy it there");
    }
    reports_[host.address] = std::move(said);
  }
  return runtime::done();
}

PortsByHost Elsewhere::ports() const {
  PortsByHost ports;
  for (const auto& [address, report] : reports_) ports[address] = {report.ports.begin(), report.ports.end()};
  return ports;
}

Status Elsewhere::start(const UpChoices& choices) const {
  for (const HostConfig& host : hosts()) {
    HostStart message;
    message.state = reports_.at(host.address).state;
    message.agent = state_.processes.agent_of(host.address).name;
    UpChoices there = choices;
    there.model = model_at(host, state_.config);
    message.files["options"] = ClusterState::options_text(there);
    const StateFolder& folder = state_.folder;
    const auto add = [&](const std::string& file) -> Status {
      CONSORT_TRY(message.files[file.substr(folder.path().size() + 1)], StateFolder::read(file));
      return runtime::done();
    };
    CONSORT_RETURN_IF_ERROR(add(folder.cluster_file()));
    CONSORT_RETURN_IF_ERROR(add(folder.allowed_keys_file()));
    for (const auto& process : state_.processes.all()) CONSORT_RETURN_IF_ERROR(add(folder.address_file(process.name)));
    for (const auto& process : state_.processes.of_host(host.address)) {
      CONSORT_RETURN_IF_ERROR(add(folder.key_file(process.name)));
      const bool serves = process.name == kGatewayProcess;
      if (serves && StateFolder::read_if_there(folder.api_keys_file()))
        CONSORT_RETURN_IF_ERROR(add(folder.api_keys_file()));
    }
    CONSORT_RETURN_IF_ERROR(order<HostStarted>(host, "host-start", message));
  }
  return runtime::done();
}

Outcome<HostSeen> Elsewhere::look_or_end(const HostConfig& host, const char* command) const {
  HostLook message;
  const auto known = reports_.find(host.address);
  message.state = known != reports_.end() ? known->second.state : host.state;
  if (message.state.empty()) {
    CONSORT_TRY(const HostReport said, report(host));
    message.state = said.state;
  }
  return order<HostSeen>(host, command, message);
}

Outcome<HostSeen> Elsewhere::look(const HostConfig& host) const { return look_or_end(host, "host-look"); }

std::vector<std::string> Elsewhere::end(bool* found_any) const {
  std::vector<std::string> troubles;
  for (const HostConfig& host : hosts()) {
    const auto seen = look_or_end(host, "host-end");
    if (!seen.ok()) troubles.push_back(seen.error().text);
    if (found_any != nullptr && seen.ok() && !seen->killed.empty()) *found_any = true;
  }
  return troubles;
}

}  // namespace consort::cli
