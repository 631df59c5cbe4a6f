#include "runtime/simulated/sim_link.hpp"

#include <cstring>
#include <utility>

#include "runtime/simulated/sim_network.hpp"
#include "runtime/simulated/world.hpp"

namespace consort::runtime {

std::string_view name(Wire wire) { return wire == Wire::kControl ? "control" : "data"; }

SimLink::SimLink(SimNetwork& network, Wire wire, std::uint32_t process, NodeId node, LinkToken token)
    : network_(network), wire_(wire), process_(process), node_(node), token_(token) {}

// Nothing to say to the network: the world told it that the process ended.
SimLink::~SimLink() = default;

LinkAddress SimLink::address() const {
  if (network_.model(wire_).like_zmq) return SimNetwork::usual_address(node_);
  return SimNetwork::exact_address(process_);
}

Status SimLink::connect(NodeId peer, Incarnation incarnation, const LinkAddress& address, const LinkToken& token) {
  return network_.connect(*this, peer, incarnation, address, token);
}

void SimLink::disconnect(NodeId peer) { network_.close(*this, peer); }

bool SimLink::connected(NodeId peer) const {
  const auto it = connections_.find(peer);
  return it != connections_.end() && network_.connections_[it->second]->up;
}

Status SimLink::send(NodeId peer, Frame frame) { return network_.send(*this, peer, std::move(frame)); }

}  // namespace consort::runtime
