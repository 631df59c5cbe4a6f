#include "cli/house/control_plane.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "transport/zmq_link.hpp"

namespace consort::cli {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;
using transport::AllowedKey;
using transport::CurveKeys;
using transport::KeyRole;
using transport::ZmqLink;

namespace {

// The key pair of a process, made where there is none yet.
Outcome<CurveKeys> keys_of(const ClusterState& state, std::string_view process) {
  const std::string file = state.folder.key_file(process);
  if (::access(file.c_str(), F_OK) != 0) {
    CONSORT_RETURN_IF_ERROR(transport::write_key_file(file, transport::make_curve_keys()));
  }
  return transport::read_key_file(file);
}

Outcome<std::string> address_text(const ClusterState& state, const std::string& process) {
  auto text = StateFolder::read(state.folder.address_file(process));
  if (!text.ok()) {
    return failure(ErrorKind::kInvalid,
                   "cluster '" + state.config.name + "' is not up here (" + text.error().text + "): run `consort up`");
  }
  return std::move(text).value();
}

ControlLink as_control_link(std::unique_ptr<ZmqLink> link) {
  ZmqLink* raw = link.get();
  return {std::shared_ptr<runtime::Link>(std::move(link)), raw,
          [raw](runtime::Incarnation incarnation) { raw->set_incarnation(incarnation); }};
}

}  // namespace

Outcome<std::vector<int>> free_ports(const std::string& host, std::size_t count) {
  std::vector<int> sockets;  // open until all are found, so that no port comes twice
  std::vector<int> ports;
  int error = 0;
  while (ports.size() < count && error == 0) {
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    socklen_t length = sizeof address;
    const bool found = socket >= 0 && ::inet_pton(AF_INET, host.c_str(), &address.sin_addr) == 1 &&
                       ::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
                       ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) == 0;
    if (!found) error = errno != 0 ? errno : EINVAL;
    if (socket >= 0) sockets.push_back(socket);
    if (found) ports.push_back(ntohs(address.sin_port));
  }
  for (const int socket : sockets) ::close(socket);
  if (error == 0) return ports;
  return failure(ErrorKind::kInvalid, "host " + host + ": no port can be bound there (" + std::strerror(error) +
                                          "): give an IPv4 address of that machine");
}

Status prepare_control_plane(const ClusterState& state, PortsByHost ports_elsewhere) {
  std::vector<AllowedKey> allowed;
  PortsByHost ports = std::move(ports_elsewhere);
  for (const auto& agent : state.processes.agents) {
    if (ports.contains(agent.host)) continue;
    CONSORT_TRY(ports[agent.host], free_ports(agent.host, state.processes.of_host(agent.host).size()));
  }
  for (const auto& process : state.processes.all()) {
    CONSORT_TRY(const CurveKeys keys, keys_of(state, process.name));
    allowed.push_back({process.name, KeyRole::kNode, process.node, keys.public_key});
    auto& free = ports.at(process.host);
    if (free.empty()) return failure(ErrorKind::kInternal, "host " + process.host + ": there are too few free ports");
    const int port = free.back();
    free.pop_back();
    const auto address = ZmqLink::make_address({"tcp://" + process.host + ":" + std::to_string(port), keys.public_key});
    const std::string_view text(reinterpret_cast<const char*>(address.bytes.data()), address.bytes.size());
    CONSORT_RETURN_IF_ERROR(StateFolder::write(state.folder.address_file(process.name), text));
  }
  CONSORT_TRY(const CurveKeys operator_keys, keys_of(state, kOperatorProcess));
  allowed.push_back({std::string(kOperatorProcess), KeyRole::kOperator, {}, operator_keys.public_key});
  if (state.processes.gateway) {
    CONSORT_TRY(const CurveKeys gateway_keys, keys_of(state, kGatewayProcess));
    allowed.push_back({std::string(kGatewayProcess), KeyRole::kOperator, {}, gateway_keys.public_key});
  }
  return transport::write_allow_list(state.folder.allowed_keys_file(), allowed);
}

Outcome<runtime::LinkAddress> control_address(const ClusterState& state, const std::string& process) {
  CONSORT_TRY(const std::string text, address_text(state, process));
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  return runtime::LinkAddress{{bytes, bytes + text.size()}};
}

Outcome<ControlLink> open_control_link(const ClusterState& state, const ProcessPlace& process) {
  CONSORT_TRY(const runtime::LinkAddress address, control_address(state, process.name));
  CONSORT_TRY(const ZmqLink::Endpoint endpoint, ZmqLink::parse_address(address));
  transport::ZmqOptions options;
  options.bind = endpoint.url;
  CONSORT_TRY(options.keys, transport::read_key_file(state.folder.key_file(process.name)));
  CONSORT_TRY(options.allowed, transport::read_allow_list(state.folder.allowed_keys_file()));
  CONSORT_TRY(std::unique_ptr<ZmqLink> link, ZmqLink::open(process.node, {}, std::move(options)));
  return as_control_link(std::move(link));
}

Outcome<ControlLink> open_client_link(const ClusterState& state, std::string_view process, runtime::NodeId client) {
  CONSORT_RETURN_IF_ERROR(address_text(state, state.processes.coordinator.name));  // says best that it is not up
  transport::ZmqOptions options;
  CONSORT_TRY(options.keys, transport::read_key_file(state.folder.key_file(process)));
  CONSORT_TRY(std::unique_ptr<ZmqLink> link, ZmqLink::open(client, {}, std::move(options)));
  return as_control_link(std::move(link));
}

}  // namespace consort::cli
