// SPDX-License-Identifier: Apache-2.0
#include "transport/control_message.hpp"

#include <string>

namespace consort::transport {

runtime::Outcome<ControlMessage> read_control(std::span<const Bytes> parts) {
  const auto refuse = [](std::string text) {
    return runtime::failure(runtime::ErrorKind::kMalformed, std::move(text));
  };
  if (parts.size() < 2 || parts.size() > kMaxControlParts) {
    return refuse("a control message of " + std::to_string(parts.size()) + " parts");
  }
  if (parts[0].size() != 1) return refuse("a control message without a tag");
  ControlMessage message;
  message.tag = static_cast<ControlTag>(parts[0][0]);
  message.body = parts[1];
  switch (message.tag) {
    case ControlTag::kHello:
    case ControlTag::kVerdict:
      if (parts.size() != 2) return refuse("a greeting with a payload");
      return message;
    case ControlTag::kFrame:
      if (parts.size() == 3) message.payload = parts[2];
      return message;
  }
  return refuse("a control message with the unknown tag " + std::to_string(static_cast<int>(parts[0][0])));
}

}  // namespace consort::transport
