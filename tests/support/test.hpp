// What every test includes: doctest, and SKIP, which is counted and printed with its reason.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <doctest/doctest.h>

#include <string>

namespace consort::tests {

// Notes that the running test case was skipped, for the summary line. Never counts as passed.
void note_skipped(const std::string& reason);

}  // namespace consort::tests

#define SKIP(reason)                        \
  do {                                      \
    ::consort::tests::note_skipped(reason); \
    return;                                 \
  } while (false)
