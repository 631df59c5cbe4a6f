// Token ids as people type and read them: "1, 2 3".
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/outcome.hpp"

namespace consort::cli {

runtime::Outcome<std::vector<std::int32_t>> parse_ids(std::string_view text);
std::string print_ids(std::span<const std::int32_t> ids);

}  // namespace consort::cli
