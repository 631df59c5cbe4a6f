#include "cli/house/cluster_state.hpp"

#include <filesystem>

namespace consort::cli {

using runtime::Outcome;
using runtime::Status;

namespace {

// The options file: the path of the cluster file, a line of words, and the numeric plan as the rest.
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
  const auto first = options.find('\n');
  const auto second = first == std::string::npos ? first : options.find('\n', first + 1);
  if (second == std::string::npos) {
    return runtime::failure(runtime::ErrorKind::kInvalid,
                            folder.options_file() + " is damaged: bring the cluster down and up again");
  }
  const std::string_view words = std::string_view(options).substr(first + 1, second - first - 1);
  UpChoices choices{options.substr(0, first), words.starts_with(kNoRestart), words.ends_with(kInsecure),
                    options.substr(second + 1)};
  CONSORT_TRY(cluster::ClusterConfig config, cluster::parse_cluster_config(text, choices.config_path));
  config.gateway.insecure = config.gateway.insecure || choices.insecure;
  CONSORT_TRY(ClusterState state, assemble(std::move(config), state_dir));
  state.choices = std::move(choices);
  return state;
}

Status ClusterState::keep(const UpChoices& kept) const {
  CONSORT_TRY(const std::string text, StateFolder::read(kept.config_path));
  CONSORT_RETURN_IF_ERROR(StateFolder::write(folder.cluster_file(), text));
  std::string words(kept.no_restart ? kNoRestart : kRestart);
  if (kept.insecure) words += kInsecure;
  return StateFolder::write(folder.options_file(), kept.config_path + "\n" + words + "\n" + kept.numeric_plan);
}

}  // namespace consort::cli
