// What this machine has for Consort, as findings: good, or missing with the command that mends it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace consort::cli {

struct Finding {
  bool is_good = true;
  std::string subject;
  std::string text;
};

std::vector<Finding> examine_machine();

}  // namespace consort::cli
