// Which addresses are private: loopback and those that no public network routes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace consort::cluster {

bool is_ipv4_address(const std::string& text);
bool is_private_address(const std::string& address);

}  // namespace consort::cluster
