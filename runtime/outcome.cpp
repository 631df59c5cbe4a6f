#include "runtime/outcome.hpp"

namespace consort::runtime {

std::string_view name(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kTimedOut:
      return "timed_out";
    case ErrorKind::kCancelled:
      return "cancelled";
    case ErrorKind::kPeerDown:
      return "peer_down";
    case ErrorKind::kNoActor:
      return "no_actor";
    case ErrorKind::kStaleIncarnation:
      return "stale_incarnation";
    case ErrorKind::kWrongEpoch:
      return "wrong_epoch";
    case ErrorKind::kExhausted:
      return "exhausted";
    case ErrorKind::kMalformed:
      return "malformed";
    case ErrorKind::kUnauthorised:
      return "unauthorised";
    case ErrorKind::kInternal:
      return "internal";
    case ErrorKind::kInvalid:
      return "invalid";
  }
  return "unknown";
}

std::string describe(const Error& error) {
  std::string text(name(error.kind));
  if (!error.text.empty()) text += ": " + error.text;
  return text;
}

}  // namespace consort::runtime
