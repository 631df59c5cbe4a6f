// The device of a one-process run: all cores of this machine.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "runtime/workers.hpp"

namespace consort::cli {

// Runs `work` on a CPU device of its own and returns what it returned.
int on_local_device(const std::function<int(runtime::Workers&)>& work);

}  // namespace consort::cli
