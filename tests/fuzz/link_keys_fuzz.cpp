// Key files, allow-lists and control addresses: any text is refused in words or read, and what is read is written the
// same. SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <string_view>

#include "runtime/check.hpp"
#include "transport/curve_keys.hpp"
#include "transport/zmq_link.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace t = consort::transport;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)t::parse_keys(text);
  if (const auto list = t::parse_allow_list(text); list.ok()) {
    const auto again = t::parse_allow_list(t::format_allow_list(*list));
    CONSORT_CHECK(again.ok() && again->size() == list->size());
    for (std::size_t i = 0; i < list->size(); ++i) {
      CONSORT_CHECK((*again)[i].name == (*list)[i].name && (*again)[i].node == (*list)[i].node);
    }
  }
  const auto bytes = std::as_bytes(std::span(data, size));
  const consort::runtime::LinkAddress address{{bytes.begin(), bytes.end()}};
  if (const auto endpoint = t::ZmqLink::parse_address(address); endpoint.ok()) {
    CONSORT_CHECK(t::ZmqLink::make_address(*endpoint).bytes == address.bytes);
  }
  return 0;
}
