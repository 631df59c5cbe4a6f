// The cluster halves of `consort generate` and `consort logits`: this process is a client of a cluster that is up.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/commands.hpp"

namespace consort::cli {

int generate_on_cluster(const GenerateOptions& options);
int logits_on_cluster(const LogitsOptions& options);

}  // namespace consort::cli
