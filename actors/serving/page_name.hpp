// PageName: what the KV of a full page is of: the model, its numeric plan, a salt, and all tokens up to the page's end.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace consort::actors {

// 256 bits of BLAKE2b: prompts come from strangers, and two that share a name would share their KV.
using PageName = std::array<std::byte, 32>;

// Before the first page. Requests of another salt find nothing of each other's: that a prompt was asked before shows in
// the time that it takes.
PageName root_name(std::uint64_t model, std::uint64_t numeric_plan, std::string_view salt);
// Of the page that holds `tokens` (kv_page_positions of them), after the page named `before`.
PageName next_name(const PageName& before, std::span<const std::uint32_t> tokens);

}  // namespace consort::actors
