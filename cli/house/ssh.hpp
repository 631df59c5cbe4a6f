// Runs one command on another machine through the system's ssh: what it reads goes in, what it says comes back.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/outcome.hpp"

namespace consort::cli {

inline constexpr std::chrono::seconds kSshConnectTime{10};  // for a machine to take the connection
inline constexpr std::chrono::seconds kSshDeadline{60};     // for all of it

// Standard output of the command. Never asks (BatchMode): keys, host keys, jump hosts are the user's ssh config.
// kInvalid in words, with the command to try, where the machine is not reached, the program is not there, or it fails.
// `command` goes to a shell there, each word quoted.
runtime::Outcome<std::string> run_ssh(const std::string& destination, const std::vector<std::string>& command,
                                      std::string_view input, std::chrono::milliseconds deadline = kSshDeadline);

// A word as a POSIX shell reads it back.
std::string shell_quoted(std::string_view word);

}  // namespace consort::cli
