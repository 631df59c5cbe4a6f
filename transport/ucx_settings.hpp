// UCX as Consort needs it: our defaults where the user's environment is silent, what is in force, which wires an endpoint took.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "runtime/outcome.hpp"

struct ucp_context;
struct ucp_ep;

namespace consort::transport {

struct UcxContext {
  ucp_context* handle = nullptr;
  std::string settings;  // one "UCX_NAME=value (why)" a line
};

// A context for active messages and wake-ups. transports: "" is tcp, sm where shared_memory, and rc and ud where there
// is a verbs device; net_devices: "" leaves the choice to UCX. What the environment sets wins; TCP's segment and
// keep-alive settings are put there (at start, before other threads read it). kInvalid where UCX refuses.
runtime::Outcome<UcxContext> open_ucx(const std::string& transports, bool shared_memory, const std::string& net_devices);

// The transports that carry an endpoint's active messages ("sysv", "tcp", ...), as UCX prints them; empty while unknown.
std::vector<std::string> active_message_transports(ucp_ep* endpoint);
bool is_shared_memory(const std::string& transport);

// Tells whether two processes run under one kernel: 64 bits of the boot id.
unsigned long long host_fingerprint();

}  // namespace consort::transport
