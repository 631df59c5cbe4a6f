// The page at /: one HTML text with its styles and scripts inside, built in from cli/http/page.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace consort::cli {

std::string_view page_html();
// Its Content-Security-Policy: the page's own script and style, by their hashes, requests to this service, and nothing
// else.
std::string page_policy();

}  // namespace consort::cli
