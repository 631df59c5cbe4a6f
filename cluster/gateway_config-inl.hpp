// The sections [gateway] and [price] of the cluster file. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "cluster/node_config.hpp"
#include "cluster/toml_section-inl.hpp"

namespace consort::cluster {

bool is_loopback_address(const std::string& host);
// After the nodes were read. `own` tells which addresses are this machine's.
runtime::Status read_gateway(const toml::table& table, IsOwnAddress own, ClusterConfig& config);
runtime::Status read_price(const toml::table& table, ClusterConfig& config);
// A sum in dollars: a number, or a text where every digit is to count as it stands.
runtime::Status read_money(TomlSection& section, std::string_view key, std::optional<Money>& out);
// A path of the cluster file: relative ones begin at its folder.
std::string beside(const std::string& cluster_file, const std::string& path);

}  // namespace consort::cluster
