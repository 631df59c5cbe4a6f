// `consort top`: the cluster at work, once a second, until Ctrl-C.
// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "cli/commands.hpp"
#include "cli/house/client.hpp"
#include "cli/live_table.hpp"
#include "cluster/roles.hpp"

namespace consort::cli {

namespace {

constexpr auto kStatusDeadline = std::chrono::seconds(5);
constexpr auto kNodeDeadline = std::chrono::milliseconds(500);
constexpr auto kLookEvery = std::chrono::seconds(1);

volatile std::sig_atomic_t told_to_end = 0;

runtime::Outcome<cluster::ClusterPicture> look(Client& client) {
  cluster::ClusterPicture picture;
  CONSORT_TRY(picture.report, client.status(kStatusDeadline));
  for (const auto& member : picture.report.view->members) {
    if (member.state == cluster::NodeState::kAbsent) continue;
    const runtime::RefTo<cluster::MembershipProtocol> membership{
        {member.node, {}, cluster::actor_id(cluster::Role::kMembership)}};
    auto read = client.ask(membership, cluster::ReadFigures{}, kNodeDeadline);
    if (read.ok()) picture.nodes[member.node] = std::move(read).value().figures;
  }
  picture.at = client.now();
  return picture;
}

}  // namespace

int run_top(const TopOptions& options) {
  const auto state = ClusterState::of_file(options.cluster_file);
  if (!state.ok()) return wrong_use(state.error().text);
  const auto client = Client::open(*state);
  if (!client.ok()) return job_failed(client.error().text);
  auto before = look(**client);
  if (!before.ok()) return job_failed(before.error().text);
  const bool once = options.once || ::isatty(STDOUT_FILENO) == 0;
  std::signal(SIGINT, [](int) { told_to_end = 1; });
  std::signal(SIGTERM, [](int) { told_to_end = 1; });
  while (true) {
    (*client)->turn_until([] { return told_to_end != 0; }, kLookEvery);
    if (told_to_end != 0) return kExitOk;
    auto now = look(**client);
    if (!now.ok()) return job_failed(now.error().text);
    // The terminal is cleared from the top left on: nothing flickers, and what was there before is not scrolled away.
    if (!once) std::printf("\x1b[H\x1b[2J%s, epoch %u\n\n", state->config.name.c_str(), now->report.view->epoch.value);
    std::printf("%s", live_table(*before, *now).c_str());
    std::fflush(stdout);
    if (once) return kExitOk;
    before = std::move(now);
  }
}

}  // namespace consort::cli
