// Which addresses belong to this machine, and which are open to the world.
#include "cluster/own_address.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <unistd.h>

#include <cstring>
#include <optional>

#include "cluster/node_config.hpp"

namespace consort::cluster {
namespace {

struct Address {
  int family = AF_INET;
  in_addr v4{};
  in6_addr v6{};
};

std::optional<Address> parse(const std::string& text) {
  Address address;
  if (inet_pton(AF_INET, text.c_str(), &address.v4) == 1) return address;
  address.family = AF_INET6;
  if (inet_pton(AF_INET6, text.c_str(), &address.v6) == 1) return address;
  return std::nullopt;
}

bool is_loopback(const Address& address) {
  if (address.family == AF_INET) return (ntohl(address.v4.s_addr) >> 24) == 127;
  return IN6_IS_ADDR_LOOPBACK(&address.v6);
}

bool is_interface(const Address& address) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return false;
  bool found = false;
  for (const ifaddrs* at = list; at != nullptr && !found; at = at->ifa_next) {
    if (at->ifa_addr == nullptr || at->ifa_addr->sa_family != address.family) continue;
    if (address.family == AF_INET) {
      sockaddr_in own{};
      std::memcpy(&own, at->ifa_addr, sizeof(own));
      found = own.sin_addr.s_addr == address.v4.s_addr;
    } else {
      sockaddr_in6 own{};
      std::memcpy(&own, at->ifa_addr, sizeof(own));
      found = std::memcmp(&own.sin6_addr, &address.v6, sizeof(in6_addr)) == 0;
    }
  }
  freeifaddrs(list);
  return found;
}

}  // namespace

bool is_own_address(const std::string& text) {
  if (text == "localhost") return true;
  char name[256] = {};
  if (gethostname(name, sizeof(name) - 1) == 0 && text == name) return true;
  const auto address = parse(text);
  return address && (is_loopback(*address) || is_interface(*address));
}

bool is_ipv4_address(const std::string& text) {
  const auto address = parse(text);
  return address && address->family == AF_INET;
}

bool is_private_address(const std::string& text) {
  const auto address = parse(text);
  if (!address) return text == "localhost";  // another name may lead anywhere
  if (is_loopback(*address)) return true;
  if (address->family == AF_INET) {
    const std::uint32_t bits = ntohl(address->v4.s_addr);
    return (bits >> 24) == 10 || (bits >> 20) == 0xAC1 || (bits >> 16) == 0xC0A8 || (bits >> 16) == 0xA9FE ||
           (bits >> 22) == (0x64400000u >> 22);  // RFC 1918, link local, and the carriers' 100.64.0.0/10
  }
  const auto* bytes = address->v6.s6_addr;
  return (bytes[0] & 0xFE) == 0xFC || (bytes[0] == 0xFE && (bytes[1] & 0xC0) == 0x80);
}

}  // namespace consort::cluster
