#include "cli/house/cluster_state.hpp"

#include <array>

#include "cli/house/gateway_process.hpp"

namespace consort::cli {

using runtime::Outcome;
using runtime::Status;

namespace {

// The options file: the path of the cluster file, a line of words, the model's folder, and the numeric plan as the
// rest.
constexpr std::string_view kRestart = "restart";
constexpr std::string_view kNoRestart = "no-restart";
constexpr std::string_view kInsecure = " insecure";

Outcome<ClusterState> assemble(cluster::ClusterConfig config, std::optional<std::string> state_dir) {
  CONSORT_TRY(ProcessList processes, ProcessList::of(config));
  if (state_dir) return ClusterState{std::move(config), StateFolder(*state_dir), std::move(processes), {}};
  CONSORT_TRY(StateFolder folder, StateFolder::of_cluster(config.name));
  return ClusterState{std::move(config), std::move(folder), std::move(processes), {}};
}

}  // namespace

Outcome<ClusterState> ClusterState::of_file(const std::string& cluster_file) {
  CONSORT_TRY(cluster::ClusterConfig config, cluster::read_cluster_config(cluster_file));
  return assemble(std::move(config), std::nullopt);
}

Outcome<ClusterState> ClusterState::of_folder(const std::string& state_dir) {
  const StateFolder folder(state_dir);
  CONSORT_TRY(const std::string text, StateFolder::read(folder.cluster_file()));
  CONSORT_TRY(const std::string options, StateFolder::read(folder.options_file()));
  std::array<std::string, 3> lines;
  std::size_t at = 0;
  for (auto& line : lines) {
    const std::size_t end = options.find('\n', at);
    if (end == std::string::npos) {
      return runtime::failure(runtime::ErrorKind::kInvalid,
                              folder.options_file() + " is damaged: bring the cluster down and up again");
    }
    line = options.substr(at, end - at);
    at = end + 1;
  }
  UpChoices choices{lines[0], lines[1].starts_with(kNoRestart), lines[1].ends_with(kInsecure), lines[2],
                    options.substr(at)};
  // `up` has checked which hosts are which; seen from any of them, each may be this one.
  const auto any_address = [](const std::string&) { return true; };
  CONSORT_TRY(cluster::ClusterConfig config, cluster::parse_cluster_config(text, choices.config_path, any_address));
  if (!choices.model.empty()) {
    config.gateway.model_name = served_name(config);  // the same at whichever host
    config.model = choices.model;
  }
  config.gateway.insecure = config.gateway.insecure || choices.insecure;
  CONSORT_TRY(ClusterState state, assemble(std::move(config), state_dir));
  state.choices = std::move(choices);
  return state;
}

std::string ClusterState::options_text(const UpChoices& choices) {
  std::string words(choices.no_restart ? kNoRestart : kRestart);
  if (choices.insecure) words += kInsecure;
  return choices.config_path + "\n" + words + "\n" + choices.model + "\n" + choices.numeric_plan;
}

Status ClusterState::keep(const UpChoices& kept) const {
  CONSORT_TRY(const std::string text, StateFolder::read(kept.config_path));
  CONSORT_RETURN_IF_ERROR(StateFolder::write(folder.cluster_file(), text));
  return StateFolder::write(folder.options_file(), options_text(kept));
}

}  // namespace consort::cli
