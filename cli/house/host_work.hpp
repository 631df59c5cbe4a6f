// What this program does on its machine when another machine's `consort` asks for it over ssh.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/house/host_messages.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

// Of this machine. What is wrong is said in the report, so that all of it is seen at once.
HostReport report_host(const HostQuestion& question);
runtime::Outcome<HostStarted> start_host(const HostStart& order);
// What lives of the cluster in that folder; where `kill` is set it is killed first.
runtime::Outcome<HostSeen> look_at_host(const HostLook& order, bool kill);

}  // namespace consort::cli
