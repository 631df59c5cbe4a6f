// The one-process halves of `consort generate` and `consort logits`, and what both halves share.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "cli/commands.hpp"
#include "model/part.hpp"
#include "model/sampler.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

int generate_locally(const GenerateOptions& options);
int logits_locally(const LogitsOptions& options);

model::SamplingParams sampling_of(const GenerateOptions& options);
// A file that `consort status --numeric-plan` wrote.
runtime::Outcome<model::NumericPlan> read_numeric_plan(const std::string& file);

}  // namespace consort::cli
